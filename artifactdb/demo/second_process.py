"""The second process of the demo: it knows the file, the spectra, and which numbers training gave."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

from artifactdb.cli import render
from artifactdb.demo import DATASET
from artifactdb.loader import ArtifactLoader
from artifactdb.workspace import Workspace

QUESTIONS = (
    (
        "Which classes take how much room?",
        "SELECT class_name, count(*) AS artifacts, sum(size_bytes) AS size_bytes FROM artifacts\n"
        "GROUP BY class_name ORDER BY size_bytes DESC LIMIT 5",
    ),
    (
        "Which fold models have six components?",
        "SELECT pipeline_id, fold_id, parameters ->> 'n_components' AS n_components FROM artifacts\n"
        "WHERE artifact_type = 'model' AND parameters ->> 'n_components' = 6 AND fold_id IS NOT NULL ORDER BY fold_id",
    ),
    (
        "What does the stack need in order to predict?",
        "SELECT class_name, ancestor_id FROM lineage_up WHERE artifact_id LIKE '0005_stack$%' ORDER BY ancestor_id",
    ),
)

SCORES = (
    "SELECT p.model_name, p.fold_id, round(p.val_score, 2) AS rmse, a.stored_bytes\n"
    "FROM predictions AS p JOIN artifacts AS a ON a.artifact_id = p.model_artifact_id ORDER BY p.val_score LIMIT 5"
)
"""Asked of scores and artifacts together, by DuckDB."""


def predict(loader: ArtifactLoader, artifact_id: str, x: Any) -> Any:
    """Predict with one stored model: its transformers on X, the model, its y-scaler backwards."""
    needed = loader.load_with_dependencies(artifact_id)
    model = needed.popitem()[1]
    encoder = None
    for source_id, source in needed.items():
        record = loader.get_record(source_id)
        if record is not None and record.artifact_type == "encoder":
            encoder = source
        else:
            x = source.transform(x)
    return encoder.inverse_transform(model.predict(x).reshape(-1, 1)).ravel() if encoder else model.predict(x)


def main(file: Path, expected_file: Path, *, as_json: bool) -> int:
    """Compare every prediction with that of training, print what there is to see, and give the exit code."""
    expected = np.load(expected_file)
    x, y, stack_id = expected["x"], expected["y"], str(expected["stack_id"])
    with Workspace(file, mode="ro") as workspace:
        loader = workspace.loader(DATASET)
        equal = compared = 0
        for key in expected.files:
            artifact_id = key.removeprefix("id:")
            if key == artifact_id or artifact_id == stack_id:
                continue
            compared += 1
            equal += int(np.array_equal(predict(loader, artifact_id, x), expected[key]))
        fold_models = loader.load_fold_models(4, pipeline_id="0001_pls")
        stack, sources, columns = loader.load_meta_model_with_sources(stack_id)
        stacked = stack.predict(np.column_stack([predict(loader, source_id, x) for source_id, _ in sources]))
        compared += 1
        equal += int(np.array_equal(stacked, expected[f"id:{stack_id}"]))
        stats = workspace.stats()
        questions = [*QUESTIONS, ("Which fold models predict best?", SCORES)]
        answers = [*(workspace.query(sql) for _, sql in QUESTIONS), workspace.sql(SCORES)]
    plain, compressed = (int(size) for size in expected["joblib_bytes"])
    report = {
        "predictions_compared": compared,
        "predictions_equal_to_the_last_bit": equal,
        "rmse_of_stack": float(np.sqrt(np.mean((stacked - y) ** 2))),
        "records": stats["total_artifacts"],
        "distinct_blobs": stats["unique_files"],
        "deduplication_ratio": stats["deduplication_ratio"],
        "file_bytes": file.stat().st_size,
        "joblib_bytes": plain,
        "joblib_compress_3_bytes": compressed,
    }
    if as_json:
        rows = [
            {"question": question, "sql": sql, "answer": answer.to_dicts()}
            for (question, sql), answer in zip(questions, answers, strict=True)
        ]
        render.as_json({**report, "questions": rows})
        return int(equal != compared)
    print(f"\nA second process opened {file} and loaded {len(fold_models)} fold models of 0001_pls,")
    print(f"the stack over {', '.join(columns)}, and every other model.")
    print(f"  predictions      {equal} of {compared} sets equal to those of training to the last bit")
    print(f"  RMSE             {report['rmse_of_stack']:.2f} g/l for the stack, on the spectra it was trained on")
    print(f"  records          {report['records']}, of {report['distinct_blobs']} distinct contents")
    print(f"  deduplication    {report['deduplication_ratio']:.1%}")
    share = report["file_bytes"] / plain
    print(
        f"  size             {render.size(report['file_bytes'])}, {share:.0%} of the same objects as joblib files: "
        f"{render.size(plain)}, with compress=3 {render.size(compressed)}"
    )
    for (question, sql), answer in zip(questions, answers, strict=True):
        print(f"\n{question}\n  {sql.replace(chr(10), chr(10) + '  ')}")
        render.table(answer.columns, answer.rows)
    return int(equal != compared)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2]), as_json="--json" in sys.argv))

"""The second process of the demo: it knows the file, the spectra, and which numbers training gave."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from artifactdb.cli import render
from artifactdb.demo import DATASET
from artifactdb.runner.runner import PipelineRunner
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
        "What does fold 0 of the stack need in order to predict?",
        "SELECT l.class_name, l.ancestor_id FROM lineage_up AS l JOIN artifacts AS a USING (artifact_id)\n"
        "WHERE a.artifact_type = 'meta_model' AND a.fold_id = 0 ORDER BY l.ancestor_id",
    ),
)

SCORES = (
    "SELECT p.model_name, p.fold_id, round(p.val_score, 2) AS rmse, a.stored_bytes\n"
    "FROM predictions AS p JOIN artifacts AS a ON a.artifact_id = p.model_artifact_id ORDER BY p.val_score LIMIT 5"
)
"""Asked of scores and artifacts together, by DuckDB."""


def main(file: Path, expected_file: Path, *, as_json: bool) -> int:
    """Compare every prediction with that of training, print what there is to see, and give the exit code."""
    expected = np.load(expected_file)
    x, y, stack_id = expected["x"], expected["y"], str(expected["stack_id"])
    with Workspace(file, mode="ro") as workspace:
        runner = PipelineRunner(workspace)
        equal = compared = 0
        for row in workspace.catalog.filter(partition="val").to_dicts():
            trained = workspace.catalog.get(row["id"])
            again = runner.predict(row["model_artifact_id"], x[trained["sample_indices"].astype(int)])
            compared += 1
            equal += int(np.array_equal(again, trained["y_pred"]))
        stacked = runner.predict(stack_id, x)
        compared += 1
        equal += int(np.array_equal(stacked, expected["averaged"]))
        loader = workspace.loader(DATASET)
        fold_models = loader.load_fold_models(5, pipeline_id=_id_of(workspace, "pls"))
        (stack, *_) = workspace.records(pipeline_id=stack_id, artifact_type="meta_model", fold_id=0)
        _, sources, columns = loader.load_meta_model_with_sources(stack.artifact_id, validate_branch=False)
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
    print(f"\nA second process opened {file} and loaded {len(fold_models)} fold models of the PLS,")
    print(f"a stack of {len(sources)} models ({', '.join(columns)}), and every other model.")
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


def _id_of(workspace: Workspace, name: str) -> str:
    return next(pipeline.pipeline_id for pipeline in workspace.pipelines(DATASET) if pipeline.name == name)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2]), as_json="--json" in sys.argv))

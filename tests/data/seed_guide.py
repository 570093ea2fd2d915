"""The guide's own snippets for nirs4all, in its words; only the first block makes what they take for granted."""

from pathlib import Path

import numpy as np
from nirs4all.pipeline import PipelineRunner
from nirs4all.pipeline.storage.artifacts import ArtifactLoader, ArtifactRegistry, ArtifactType
from nirs4all.workspace import LibraryManager
from sklearn.cross_decomposition import PLSRegression
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import Ridge
from sklearn.model_selection import KFold
from sklearn.preprocessing import MinMaxScaler

rng = np.random.default_rng(0)
X, y = rng.normal(size=(60, 20)), rng.normal(size=60)
workspace = Path("./workspace")
runs_dir = workspace / "runs"
results_dir = workspace / "binaries"
trained_model = PLSRegression(n_components=10).fit(X, y)
chain = "s1.MinMaxScaler>s3.PLS"
pipeline_dict = [MinMaxScaler(), KFold(3), {"model": PLSRegression(n_components=2)}]
new_dataset = (X, y)
prepared = ArtifactRegistry(workspace=workspace, dataset="wheat_sample1", pipeline_id="0001_pls")
for fold in range(2):
    prepared.register(trained_model, f"0001_pls$abc123abc123:{fold}", ArtifactType.MODEL, chain_path=chain)
    prepared.register(trained_model, f"0001:3:{fold}", ArtifactType.MODEL)
forest = RandomForestRegressor(3, random_state=0).fit(X, y)
prepared.register(forest, "0001_pls$def456def456:all", ArtifactType.MODEL, chain_path="s1.MinMaxScaler>s3.RF")
stacked = Ridge().fit(np.column_stack([trained_model.predict(X).ravel(), forest.predict(X)]), y)
prepared.register_meta_model(
    stacked, "0001_pls$a1b2c3a1b2c3:all", ["0001_pls$abc123abc123:0", "0001_pls$def456def456:all"]
)
manifest = prepared.export_to_manifest()
prepared.close()

# -- Using the ArtifactRegistry

# Initialize registry
registry = ArtifactRegistry(workspace=Path("./workspace"), dataset="wheat_sample1", pipeline_id="0001_pls_abc123")

# Register an artifact with V3 chain-based ID
record = registry.register_with_chain(
    obj=trained_model,
    chain="s1.MinMaxScaler>s3.PLSRegression",
    artifact_type=ArtifactType.MODEL,
    step_index=3,
    fold_id=0,
    params={"n_components": 10},
)

print(f"Saved: {record.artifact_id}")

# -- Key Methods

# Generate ID from chain
artifact_id = registry.generate_id(chain, fold_id=0)

# Resolve ID to record
record = registry.resolve(artifact_id)

# Get by chain path (V3)
record = registry.get_by_chain("s1.MinMaxScaler>s3.PLS", fold_id=0)
print(f"By chain: {record.artifact_id}")

# Get artifacts for a step
records = registry.get_artifacts_for_step(pipeline_id="0001", step_index=3, branch_path=[0], fold_id=None)

# Get fold models for CV averaging
fold_records = registry.get_fold_models(pipeline_id="0001", step_index=3)
print(f"Fold models: {len(fold_records)}")

# -- Using the ArtifactLoader

loader = ArtifactLoader(workspace, "wheat_sample1")

# Load by ID (uses LRU cache)
model = loader.load_by_id("0001_pls$abc123abc123:0")

# Load by chain path
model = loader.load_by_chain("s1.MinMaxScaler>s3.PLS", fold_id=0)

# Load all artifacts for a step
artifacts = loader.load_for_step(step_index=3, branch_path=[0], fold_id=0)
for artifact_id, _obj in artifacts:
    print(f"Loaded: {artifact_id}")

# Load fold models for ensemble
fold_models = loader.load_fold_models(step_index=3)
for fold_id, model in fold_models:
    print(f"Fold {fold_id}: {model}")

# Load meta-model with all source models
meta_model, sources, feature_cols = loader.load_meta_model_with_sources(
    artifact_id="0001_pls$a1b2c3a1b2c3:all", validate_branch=True
)
print(f"Stack: {feature_cols}")

# Get cache statistics
info = loader.get_cache_info()
print(f"Cache hit rate: {info['hit_rate']:.2%}")

# Preload artifacts
loader.preload_artifacts(artifact_ids=["0001:3:0", "0001:3:1"])

# Clear cache
loader.clear_cache()

# Resize cache
loader.set_cache_size(200)

# -- Library Management

library = LibraryManager(workspace / "library")

# Save config-only template
library.save_template(
    pipeline_config=pipeline_dict, name="baseline_pls", description="PLS baseline with SNV preprocessing"
)

# List templates
templates = library.list_templates()
for t in templates:
    print(f"{t['name']}: {t['description']}")

# Load template
config = library.load_template("baseline_pls")

# Use in pipeline
runner = PipelineRunner(workspace="./workspace")
predictions = runner.run(config, new_dataset)
print(f"Trained: {len(predictions.pipelines)}")

# Save full trained pipeline
library.save_pipeline_full(
    run_dir=runs_dir / "dataset",
    pipeline_dir=runs_dir / "dataset" / predictions.pipelines[0].pipeline_id,
    name="wheat_quality_v1",
)

# -- Cleanup Utilities

# Find orphaned artifacts
orphans = registry.find_orphaned_artifacts()
print(f"Found {len(orphans)} orphaned files")

# Delete orphans (dry run first)
deleted, freed = registry.delete_orphaned_artifacts(dry_run=True)
print(f"Would delete {len(deleted)} files, freeing {freed / 1024:.1f} KB")

# Actually delete
deleted, freed = registry.delete_orphaned_artifacts(dry_run=False)

# Get storage statistics
stats = registry.get_stats()
print(f"Total artifacts: {stats['total_artifacts']}")
print(f"Unique files: {stats['unique_files']}")
print(f"Deduplication ratio: {stats['deduplication_ratio']:.1%}")

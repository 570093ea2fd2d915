-- artifactdb, schema 2: the prediction catalog, and the library's templates. Rows and arrays are staged here, in the transaction of the artifacts they
-- belong to, and move to Parquet files beside the workspace; a Parquet file counts only when catalog_files names it.
-- docs/format.md describes the columns of the Parquet files.

CREATE TABLE staged_predictions (
  -- Predictions that are not in a Parquet file yet: one row for each model, fold and partition.
  staged_key INTEGER PRIMARY KEY AUTOINCREMENT, -- order of arrival, never used again; rows are never changed
  id TEXT NOT NULL UNIQUE, -- 16 hex digits made from what identifies the row, or the id it came with
  dataset_name TEXT NOT NULL, -- as artifacts.dataset, e.g. wheat_sample1
  dataset_path TEXT, -- where the data lay
  config_name TEXT, -- the pipeline's configuration, e.g. 0001_pls_abc123
  config_path TEXT, -- dataset and configuration, e.g. wheat/0001_pls_abc123
  pipeline_uid TEXT, -- pipeline id of the artifacts, e.g. 0001_pls_abc123
  step_idx INTEGER, -- position of the model in the pipeline
  op_counter INTEGER, -- which operator of the run
  model_name TEXT NOT NULL, -- as the user calls it
  model_classname TEXT, -- e.g. PLSRegression
  model_path TEXT, -- file of the model, for rows that came from elsewhere
  model_artifact_id TEXT, -- artifact_id of the model that predicted
  trace_id TEXT, -- execution trace of nirs4all
  fold_id TEXT, -- 0, 1, ... or avg, w_avg; NULL: no folds
  "partition" TEXT NOT NULL, -- train, val or test
  val_score ANY, -- number in units of the metric; the text nan: not a number; NULL: missing
  test_score ANY, -- the same
  train_score ANY, -- the same
  metric TEXT, -- what the scores are, e.g. rmse
  task_type TEXT, -- regression, classification, ...
  n_samples INTEGER, -- samples predicted
  n_features INTEGER, -- columns of X
  preprocessings TEXT, -- as text, e.g. SNV|SavitzkyGolay
  best_params TEXT, -- JSON: parameters that a search chose
  metadata TEXT, -- JSON: whatever else the user says of the row
  scores TEXT, -- JSON: {"val": {"rmse": 0.1, ...}, ...}
  branch_id INTEGER, -- from 0; NULL: no branches
  branch_name TEXT, -- as the user calls the branch
  exclusion_count INTEGER, -- samples left out of training
  exclusion_rate ANY, -- 0 to 1; the text nan: not a number
  y_true_id TEXT, -- array_id of the array, here or in a Parquet file; NULL: none
  y_pred_id TEXT, -- predicted values, one row a sample
  y_proba_id TEXT, -- class probabilities, samples x classes
  sample_indices_id TEXT, -- which samples of the dataset
  weights_id TEXT -- weights of the samples or folds
) STRICT;

CREATE TABLE staged_arrays (
  -- Arrays that are not in a Parquet file yet, each content once.
  array_key INTEGER PRIMARY KEY AUTOINCREMENT, -- order of arrival, never used again
  array_id TEXT NOT NULL UNIQUE, -- array_ and 32 hex digits of SHA-256 over dtype, shape and bytes; or the id it came with
  array_type TEXT NOT NULL, -- y_true, y_pred, y_proba, indices or weights: its first use
  dtype TEXT NOT NULL, -- numpy's name, little-endian: <f8
  shape TEXT NOT NULL CHECK (json_valid(shape)), -- JSON, e.g. [50] or [50, 3]
  data BLOB NOT NULL -- items in C order
) STRICT;

CREATE TABLE catalog_files (
  -- The Parquet files that count. What else lies in the folder is left over from a crash and means nothing.
  file_key INTEGER PRIMARY KEY AUTOINCREMENT, -- internal number, never used again
  kind TEXT NOT NULL CHECK (kind IN ('meta', 'data')), -- meta: predictions; data: arrays
  name TEXT NOT NULL, -- file name within the catalog folder
  rows INTEGER NOT NULL CHECK (rows >= 0), -- as written, those deleted since included
  size_bytes INTEGER NOT NULL CHECK (size_bytes > 0), -- of the file
  content_hash BLOB NOT NULL CHECK (length(content_hash) = 32), -- SHA-256 of the file
  footer_hash BLOB NOT NULL CHECK (length(footer_hash) = 32), -- SHA-256 of its Parquet footer, quick to compare
  created_at TEXT NOT NULL, -- ISO 8601, UTC
  id_filter BLOB NOT NULL -- Bloom filter over its ids: tells of most that they are not in it; docs/format.md
) STRICT;

CREATE TABLE deleted_predictions (
  -- Rows of Parquet files that no longer count; compaction leaves them out.
  deletion_key INTEGER PRIMARY KEY AUTOINCREMENT, -- order of deletion, never used again
  file_key INTEGER REFERENCES catalog_files ON DELETE CASCADE, -- NULL: was staged; a flush under way must hear of it
  id TEXT NOT NULL, -- id of the prediction in that file
  UNIQUE (file_key, id)
) STRICT;

CREATE TABLE library_entries (
  -- Reusable configurations. Kinds with trained artifacts come with a later schema.
  entry_key INTEGER PRIMARY KEY, -- internal number
  entry_type TEXT NOT NULL CHECK (entry_type IN ('template')), -- template: configuration only
  name TEXT NOT NULL, -- as the user calls it
  description TEXT NOT NULL, -- in the user's words; '' for none
  category TEXT NOT NULL, -- e.g. calibration; '' for none
  tags TEXT NOT NULL CHECK (json_valid(tags)), -- JSON list of texts, sorted
  config TEXT NOT NULL CHECK (json_valid(config)), -- JSON: the pipeline's configuration
  created_at TEXT NOT NULL, -- ISO 8601, UTC; stays when the entry is saved again
  saved_at TEXT NOT NULL, -- ISO 8601, UTC; of the content
  UNIQUE (entry_type, name)
) STRICT;

CREATE VIEW library AS
  -- Every entry of the library.
  SELECT name, entry_type AS type, description, category, tags, config, created_at, saved_at FROM library_entries;

CREATE INDEX pipelines_by_id ON pipelines (pipeline_id);

CREATE VIEW runs AS
  -- One row for each start_run/end_run of a registry, with how many artifacts it made.
  SELECT t.training_run_key AS run_id, d.name AS dataset, t.pipeline_id, t.started_at, t.ended_at,
    (SELECT count(*) FROM training_run_records AS made WHERE made.training_run_key = t.training_run_key) AS artifacts
  FROM training_runs AS t
  JOIN datasets AS d ON d.dataset_key = t.dataset_key;

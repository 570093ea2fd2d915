-- artifactdb, schema 3: runs and what they say of pipelines, trained entries of the library, and a catalog inside the
-- file. Tables first, then views.

CREATE TABLE run_entries (
  -- One experiment on one dataset: a training that one process carries out, or a registry's start_run and end_run.
  run_key INTEGER PRIMARY KEY AUTOINCREMENT, -- internal number, never used again
  run_id TEXT NOT NULL, -- the same in every file: 32 hex digits, or the id it came with
  dataset_key INTEGER NOT NULL REFERENCES datasets ON DELETE RESTRICT,
  name TEXT NOT NULL, -- as the user calls it; '' for none
  pipeline_id TEXT NOT NULL, -- the only pipeline that the run is about; '' for any of the dataset
  status TEXT NOT NULL CHECK (status IN ('running', 'completed', 'failed', 'interrupted')), -- see docs/architecture.md
  started_at TEXT NOT NULL, -- ISO 8601, UTC; of the first start when a run was resumed
  ended_at TEXT, -- ISO 8601, UTC; NULL: still going
  error TEXT, -- what stopped it; NULL: nothing did
  process TEXT CHECK (json_valid(process)), -- JSON: host, boot, pid and start of the process that runs it; NULL: none
  environment_key INTEGER REFERENCES environments ON DELETE RESTRICT, -- every package at the start; NULL: not known
  configuration TEXT CHECK (json_valid(configuration)), -- JSON, for the whole experiment; NULL: none
  metadata TEXT NOT NULL CHECK (json_valid(metadata)), -- JSON object: what other programs say of the run
  tags TEXT NOT NULL CHECK (json_valid(tags)), -- JSON list of texts, sorted
  notes TEXT NOT NULL, -- in the user's words; '' for none
  UNIQUE (run_id, dataset_key)
) STRICT;
CREATE INDEX run_entries_running ON run_entries (run_key) WHERE status = 'running';

CREATE TABLE run_records (
  -- The records that a run created.
  run_key INTEGER NOT NULL REFERENCES run_entries ON DELETE CASCADE,
  record_key INTEGER NOT NULL REFERENCES records ON DELETE CASCADE,
  PRIMARY KEY (run_key, record_key)
) STRICT, WITHOUT ROWID;
CREATE INDEX run_records_by_record ON run_records (record_key);

INSERT INTO run_entries (run_key, run_id, dataset_key, name, pipeline_id, status, started_at, ended_at, metadata, tags, notes)
SELECT training_run_key, lower(hex(randomblob(16))), dataset_key, '', pipeline_id,
  iif(ended_at IS NULL, 'interrupted', 'completed'), started_at, ended_at, '{}', '[]', ''
FROM training_runs;
INSERT INTO run_records (run_key, record_key) SELECT training_run_key, record_key FROM training_run_records;
DROP VIEW runs;
DROP TABLE training_run_records;
DROP TABLE training_runs;

CREATE TABLE trained_pipelines (
  -- What is known of a pipeline besides its artifacts.
  pipeline_key INTEGER PRIMARY KEY REFERENCES pipelines ON DELETE CASCADE,
  run_key INTEGER REFERENCES run_entries ON DELETE SET NULL, -- the run that trains it; NULL: none
  name TEXT NOT NULL, -- as the user calls it; '' for none
  status TEXT NOT NULL CHECK (status IN ('running', 'completed', 'failed', 'interrupted')), -- as of a run
  started_at TEXT NOT NULL, -- ISO 8601, UTC
  ended_at TEXT, -- ISO 8601, UTC; NULL: still going, or not known
  error TEXT, -- what stopped it; NULL: nothing did
  configuration TEXT CHECK (json_valid(configuration)), -- JSON: the steps; NULL: not known
  metadata TEXT NOT NULL CHECK (json_valid(metadata)), -- JSON object: what other programs say of the pipeline
  tags TEXT NOT NULL CHECK (json_valid(tags)), -- JSON list of texts, sorted
  notes TEXT NOT NULL -- in the user's words; '' for none
) STRICT;
CREATE INDEX trained_pipelines_by_run ON trained_pipelines (run_key);

CREATE TABLE pipeline_metrics (
  -- How well a pipeline does, one number a row.
  pipeline_key INTEGER NOT NULL REFERENCES pipelines ON DELETE CASCADE,
  "partition" TEXT NOT NULL, -- train, val or test
  fold_id TEXT NOT NULL, -- 0, 1, ...; '' for all folds together
  metric TEXT NOT NULL, -- e.g. rmse
  value ANY, -- number in units of the metric; the text nan: not a number
  PRIMARY KEY (pipeline_key, "partition", fold_id, metric)
) STRICT, WITHOUT ROWID;
CREATE INDEX pipeline_metrics_by_value ON pipeline_metrics (metric, "partition", value);

DROP VIEW library;
ALTER TABLE library_entries RENAME TO library_templates;
CREATE TABLE library_entries (
  -- What is used again. A trained entry keeps content of its own: what becomes of the pipeline does not change it.
  entry_key INTEGER PRIMARY KEY AUTOINCREMENT, -- internal number, never used again
  entry_type TEXT NOT NULL CHECK (entry_type IN ('template', 'filtered', 'pipeline', 'fullrun')),
    -- template: configuration; filtered: and metrics; pipeline: and artifacts; fullrun: every pipeline, and data
  name TEXT NOT NULL, -- as the user calls it
  description TEXT NOT NULL, -- in the user's words; '' for none
  category TEXT NOT NULL, -- e.g. calibration; '' for none
  tags TEXT NOT NULL CHECK (json_valid(tags)), -- JSON list of texts, sorted
  config TEXT CHECK (json_valid(config)), -- JSON: the pipeline's configuration; NULL: not known, or several
  metrics TEXT NOT NULL CHECK (json_valid(metrics)), -- JSON: {"val": {"rmse": 0.1}}, of all folds together
  source TEXT NOT NULL, -- dataset, and pipeline id after a slash; '' for a template
  n_features INTEGER, -- columns of X; NULL: not known
  content TEXT CHECK (json_valid(content)), -- JSON: runs and pipelines as manifests; NULL for a template
  created_at TEXT NOT NULL, -- ISO 8601, UTC; stays when the entry is saved again
  saved_at TEXT NOT NULL, -- ISO 8601, UTC; of the content
  UNIQUE (entry_type, name)
) STRICT;
INSERT INTO library_entries (entry_type, name, description, category, tags, config, metrics, source, created_at, saved_at)
SELECT entry_type, name, description, category, tags, config, '{}', '', created_at, saved_at FROM library_templates;
DROP TABLE library_templates;

CREATE TABLE library_artifacts (
  -- The artifacts of a trained entry, as they were when it was saved: sources before what needs them.
  entry_key INTEGER NOT NULL REFERENCES library_entries ON DELETE CASCADE,
  position INTEGER NOT NULL CHECK (position >= 0), -- from 0
  record TEXT NOT NULL CHECK (json_valid(record)), -- JSON: the record, as in a manifest
  blob_key INTEGER NOT NULL REFERENCES blobs ON DELETE RESTRICT, -- its content
  PRIMARY KEY (entry_key, position)
) STRICT, WITHOUT ROWID;
CREATE INDEX library_artifacts_by_blob ON library_artifacts (blob_key);

CREATE TABLE library_files (
  -- Files of a trained entry: its predictions as a pair of Parquet files, and data as the user gave it.
  entry_key INTEGER NOT NULL REFERENCES library_entries ON DELETE CASCADE,
  name TEXT NOT NULL, -- e.g. predictions_meta.parquet, X.npy
  blob_key INTEGER NOT NULL REFERENCES blobs ON DELETE RESTRICT, -- its bytes
  PRIMARY KEY (entry_key, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX library_files_by_blob ON library_files (blob_key);

CREATE TABLE catalog_payloads (
  -- The bytes of Parquet files that lie inside this file, as `pack` leaves them; other files lie in the folder beside.
  file_key INTEGER NOT NULL REFERENCES catalog_files ON DELETE CASCADE,
  chunk_index INTEGER NOT NULL CHECK (chunk_index >= 0), -- order within the file, from 0
  payload BLOB NOT NULL, -- as they are
  PRIMARY KEY (file_key, chunk_index)
) STRICT;

CREATE VIEW runs AS
  -- Every run, with how many pipelines it trained and artifacts it made.
  SELECT e.run_id, e.name, d.name AS dataset, e.pipeline_id, e.status, e.started_at, e.ended_at,
    (SELECT count(*) FROM trained_pipelines AS t WHERE t.run_key = e.run_key) AS pipelines,
    (SELECT count(*) FROM run_records AS made WHERE made.run_key = e.run_key) AS artifacts,
    e.tags, e.notes, e.error, e.configuration, v.versions
  FROM run_entries AS e
  JOIN datasets AS d ON d.dataset_key = e.dataset_key
  LEFT JOIN environments AS v ON v.environment_key = e.environment_key;

CREATE VIEW pipelines_with_runs AS
  -- Every pipeline with its run, state and configuration.
  SELECT p.pipeline_id, d.name AS dataset, t.name, e.run_id, t.status, coalesce(t.started_at, p.created_at) AS started_at,
    t.ended_at, t.error, t.configuration, t.tags, t.notes,
    (SELECT count(*) FROM records AS r WHERE r.pipeline_key = p.pipeline_key) AS artifacts
  FROM pipelines AS p
  JOIN datasets AS d ON d.dataset_key = p.dataset_key
  LEFT JOIN trained_pipelines AS t ON t.pipeline_key = p.pipeline_key
  LEFT JOIN run_entries AS e ON e.run_key = t.run_key;

CREATE VIEW metrics AS
  -- How well pipelines do: SELECT * FROM metrics WHERE metric = 'rmse' AND "partition" = 'val' ORDER BY value.
  SELECT p.pipeline_id, d.name AS dataset, m."partition", m.fold_id, m.metric, m.value
  FROM pipeline_metrics AS m
  JOIN pipelines AS p ON p.pipeline_key = m.pipeline_key
  JOIN datasets AS d ON d.dataset_key = p.dataset_key;

CREATE VIEW library AS
  -- Every entry of the library, with how many artifacts it keeps.
  SELECT name, entry_type AS type, description, category, tags, config, metrics, source, n_features,
    (SELECT count(*) FROM library_artifacts AS kept WHERE kept.entry_key = e.entry_key) AS artifacts, created_at, saved_at
  FROM library_entries AS e;

DROP VIEW orphan_blobs;
CREATE VIEW orphan_blobs AS
  -- Content that no record or entry of the library reaches, directly or as a part: what `artifactdb gc` removes.
  SELECT b.blob_key, 'sha256:' || lower(hex(b.content_hash)) AS content_hash, b.size_bytes, b.stored_bytes, b.created_at
  FROM blobs AS b
  WHERE NOT EXISTS (SELECT 1 FROM records AS r WHERE r.blob_key = b.blob_key)
    AND NOT EXISTS (SELECT 1 FROM library_artifacts AS kept WHERE kept.blob_key = b.blob_key)
    AND NOT EXISTS (SELECT 1 FROM library_files AS kept WHERE kept.blob_key = b.blob_key)
    AND NOT EXISTS (
      SELECT 1 FROM blob_parts AS bp
      WHERE bp.part_key = b.blob_key AND (
        EXISTS (SELECT 1 FROM records AS r WHERE r.blob_key = bp.blob_key)
        OR EXISTS (SELECT 1 FROM library_artifacts AS kept WHERE kept.blob_key = bp.blob_key)));

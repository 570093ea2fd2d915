-- artifactdb, schema 1: the records of fitted objects, their content, and what depends on what.
-- Applied in one transaction. Words inside the parentheses stay in the file: `.schema` explains a workspace.
-- Enduring tables first, then views, which can be rebuilt from them at any time.

CREATE TABLE datasets (
  -- The data that pipelines were trained on. Artifact ids are unique within a dataset, not across datasets.
  dataset_key  INTEGER PRIMARY KEY,   -- internal number, never shown
  name         TEXT NOT NULL UNIQUE,  -- as the user gave it, e.g. wheat_sample1
  created_at   TEXT NOT NULL          -- ISO 8601, UTC
) STRICT;

CREATE TABLE pipelines (
  -- One trained configuration on one dataset.
  pipeline_key INTEGER PRIMARY KEY,   -- internal number, never shown
  dataset_key  INTEGER NOT NULL REFERENCES datasets ON DELETE RESTRICT,
  pipeline_id  TEXT NOT NULL,         -- e.g. 0001_pls_abc123
  created_at   TEXT NOT NULL,         -- ISO 8601, UTC
  UNIQUE (dataset_key, pipeline_id)
) STRICT;

CREATE TABLE chains (
  -- The operators that led to an artifact, each path once.
  chain_key    INTEGER PRIMARY KEY,   -- internal number
  chain_path   TEXT NOT NULL UNIQUE,  -- e.g. s1.MinMaxScaler>s3.PLSRegression[br=0]
  chain_hash   TEXT NOT NULL          -- first 12 hex digits of SHA-256 of the UTF-8 path; part of the artifact id
    CHECK (length(chain_hash) = 12)
) STRICT;
CREATE INDEX chains_by_hash ON chains (chain_hash);

CREATE TABLE parameter_sets (
  -- The parameters an object was built with, each distinct set once: folds of one model share theirs.
  parameter_set_key INTEGER PRIMARY KEY, -- internal number
  parameters   TEXT NOT NULL UNIQUE   -- JSON object with sorted keys
    CHECK (json_valid(parameters))
) STRICT;

CREATE TABLE parameter_values (
  -- The same parameters one by one, so that a value can be looked up.
  parameter_set_key INTEGER NOT NULL REFERENCES parameter_sets ON DELETE CASCADE,
  name         TEXT NOT NULL,         -- top-level name, e.g. n_components
  value        ANY,                   -- number, text or NULL; booleans are 1 and 0; lists and objects as JSON text
  UNIQUE (name, value, parameter_set_key)
) STRICT;
CREATE INDEX parameter_values_by_set ON parameter_values (parameter_set_key);

CREATE TABLE environments (
  -- The versions of Python and of the libraries that wrote an object, each combination once.
  environment_key INTEGER PRIMARY KEY, -- internal number
  versions     TEXT NOT NULL UNIQUE   -- JSON object, e.g. {"numpy":"2.4.6","python":"3.11.7"}
    CHECK (json_valid(versions))
) STRICT;

CREATE TABLE blobs (
  -- Content, each once in the whole file. A blob that no record reaches is an orphan; that is a query, not a counter.
  blob_key     INTEGER PRIMARY KEY AUTOINCREMENT, -- never used again after a deletion
  content_hash BLOB NOT NULL UNIQUE   -- SHA-256 of the logical bytes, 32 bytes; see docs/format.md
    CHECK (length(content_hash) = 32),
  size_bytes   INTEGER NOT NULL CHECK (size_bytes >= 0),   -- logical bytes of this blob alone
  stored_bytes INTEGER NOT NULL CHECK (stored_bytes >= 0), -- what its chunks take, encoded
  created_at   TEXT NOT NULL          -- ISO 8601, UTC
) STRICT;

CREATE TABLE blob_parts (
  -- Large arrays are blobs of their own; the object that holds them lists them here.
  blob_key     INTEGER NOT NULL REFERENCES blobs ON DELETE CASCADE,
  position     INTEGER NOT NULL CHECK (position >= 0), -- order of the part in the object, from 0
  part_key     INTEGER NOT NULL REFERENCES blobs ON DELETE RESTRICT,
  PRIMARY KEY (blob_key, position)
) STRICT, WITHOUT ROWID;
CREATE INDEX blob_parts_by_part ON blob_parts (part_key);

CREATE TABLE chunks (
  -- How the bytes of a blob lie in the file. Payload is only here, so that no other question reads past it.
  blob_key     INTEGER NOT NULL REFERENCES blobs ON DELETE CASCADE,
  chunk_index  INTEGER NOT NULL CHECK (chunk_index >= 0), -- order within the blob, from 0
  size_bytes   INTEGER NOT NULL CHECK (size_bytes > 0),   -- after decoding
  codec        TEXT NOT NULL,         -- raw: as it is; zstd: one Zstandard frame
  shuffle      TEXT,                  -- JSON [[item_size, bytes], ...]: byte-shuffled before the codec; NULL: not
  payload      BLOB NOT NULL,         -- the encoded bytes
  PRIMARY KEY (blob_key, chunk_index)
) STRICT;

CREATE TABLE records (
  -- One fitted object: where in which pipeline it was made, and which content it has.
  record_key   INTEGER PRIMARY KEY AUTOINCREMENT, -- internal number, never used again; stays when content is replaced
  dataset_key  INTEGER NOT NULL REFERENCES datasets ON DELETE RESTRICT,
  pipeline_key INTEGER NOT NULL REFERENCES pipelines ON DELETE RESTRICT,
  artifact_id  TEXT NOT NULL,         -- {pipeline_id}${chain_hash}:{fold_id or all}
  chain_key    INTEGER REFERENCES chains ON DELETE RESTRICT, -- NULL: registered under an id of the caller's without a chain
  step_index   INTEGER NOT NULL CHECK (step_index >= 0),     -- position of the operator in the pipeline
  substep_index INTEGER CHECK (substep_index >= 0),          -- for several operators in one step
  source_index INTEGER CHECK (source_index >= 0),            -- for several X blocks
  branch_path  TEXT NOT NULL DEFAULT '',                     -- 0.1: second inner branch of the first; '' for none
  fold_id      INTEGER CHECK (fold_id >= 0),                 -- NULL: shared by all folds
  artifact_type TEXT NOT NULL,        -- model, transformer, splitter, encoder, meta_model, or a type of the user's
  class_name   TEXT NOT NULL,         -- e.g. PLSRegression
  custom_name  TEXT NOT NULL DEFAULT '', -- the name the user gave the operator
  parameter_set_key INTEGER NOT NULL REFERENCES parameter_sets ON DELETE RESTRICT,
  meta_config  TEXT CHECK (json_valid(meta_config)), -- for a stack: source models and feature columns, JSON
  blob_key     INTEGER NOT NULL REFERENCES blobs ON DELETE RESTRICT,
  format       TEXT NOT NULL,         -- name of the serializer: pickle, dill, joblib, ...
  format_version TEXT NOT NULL DEFAULT '', -- the library that mattered, e.g. scikit-learn==1.9.1
  environment_key INTEGER NOT NULL REFERENCES environments ON DELETE RESTRICT,
  created_at   TEXT NOT NULL,         -- ISO 8601, UTC
  UNIQUE (artifact_id, dataset_key)   -- in this order, so that an id alone is found too
) STRICT;
CREATE INDEX records_by_chain ON records (chain_key, dataset_key, fold_id);
CREATE INDEX records_by_step ON records (pipeline_key, step_index, fold_id);
CREATE INDEX records_by_dataset_and_step ON records (dataset_key, step_index);
CREATE INDEX records_by_parameters ON records (parameter_set_key);
CREATE INDEX records_by_blob ON records (blob_key);
CREATE INDEX records_by_class ON records (class_name);
CREATE INDEX records_by_name ON records (custom_name) WHERE custom_name <> '';

CREATE TABLE record_sources (
  -- What an artifact needs in order to predict: a stack its source models, a model its transformers.
  record_key   INTEGER NOT NULL REFERENCES records ON DELETE CASCADE,
  position     INTEGER NOT NULL CHECK (position >= 0), -- order in which the sources were named, from 0
  source_key   INTEGER NOT NULL REFERENCES records ON DELETE RESTRICT,
  PRIMARY KEY (record_key, position),
  UNIQUE (record_key, source_key)
) STRICT, WITHOUT ROWID;
CREATE INDEX record_sources_by_source ON record_sources (source_key);

CREATE TABLE training_runs (
  -- A registry's start_run/end_run: what was first registered between them can be taken back if training fails.
  training_run_key INTEGER PRIMARY KEY AUTOINCREMENT, -- internal number
  dataset_key  INTEGER NOT NULL REFERENCES datasets ON DELETE RESTRICT,
  pipeline_id  TEXT NOT NULL,         -- '' for any pipeline of the dataset
  started_at   TEXT NOT NULL,         -- ISO 8601, UTC
  ended_at     TEXT                   -- NULL: still going, or its process died
) STRICT;

CREATE TABLE training_run_records (
  -- The records that a run created.
  training_run_key INTEGER NOT NULL REFERENCES training_runs ON DELETE CASCADE,
  record_key   INTEGER NOT NULL REFERENCES records ON DELETE CASCADE,
  PRIMARY KEY (training_run_key, record_key)
) STRICT, WITHOUT ROWID;
CREATE INDEX training_run_records_by_record ON training_run_records (record_key);

CREATE VIEW artifacts AS
  -- Every artifact with its chain, pipeline, fold and sizes.
  SELECT
    r.artifact_id,
    d.name AS dataset,
    p.pipeline_id,
    c.chain_path,
    c.chain_hash,
    r.step_index,
    r.substep_index,
    r.source_index,
    r.branch_path,
    r.fold_id,
    r.artifact_type,
    r.class_name,
    r.custom_name,
    s.parameters,
    r.meta_config,
    'sha256:' || lower(hex(b.content_hash)) AS content_hash,
    b.size_bytes + coalesce((
      SELECT sum(part.size_bytes) FROM blob_parts AS bp JOIN blobs AS part ON part.blob_key = bp.part_key
      WHERE bp.blob_key = b.blob_key), 0) AS size_bytes,
    b.stored_bytes + coalesce((
      SELECT sum(part.stored_bytes) FROM blob_parts AS bp JOIN blobs AS part ON part.blob_key = bp.part_key
      WHERE bp.blob_key = b.blob_key), 0) AS stored_bytes,
    r.format,
    r.format_version,
    e.versions,
    r.created_at
  FROM records AS r
  JOIN datasets AS d ON d.dataset_key = r.dataset_key
  JOIN pipelines AS p ON p.pipeline_key = r.pipeline_key
  JOIN parameter_sets AS s ON s.parameter_set_key = r.parameter_set_key
  JOIN environments AS e ON e.environment_key = r.environment_key
  JOIN blobs AS b ON b.blob_key = r.blob_key
  LEFT JOIN chains AS c ON c.chain_key = r.chain_key;

CREATE VIEW folds AS
  -- The folds of each chain: SELECT * FROM folds WHERE chain_path = '...'.
  SELECT c.chain_path, c.chain_hash, d.name AS dataset, p.pipeline_id, r.fold_id, r.artifact_id, r.class_name
  FROM records AS r
  JOIN chains AS c ON c.chain_key = r.chain_key
  JOIN datasets AS d ON d.dataset_key = r.dataset_key
  JOIN pipelines AS p ON p.pipeline_key = r.pipeline_key
  WHERE r.fold_id IS NOT NULL;

CREATE VIEW dependencies AS
  -- One row for each artifact and artifact it directly depends on.
  SELECT r.artifact_id, d.name AS dataset, rs.position, source.artifact_id AS depends_on
  FROM record_sources AS rs
  JOIN records AS r ON r.record_key = rs.record_key
  JOIN datasets AS d ON d.dataset_key = r.dataset_key
  JOIN records AS source ON source.record_key = rs.source_key;

CREATE VIEW lineage_up AS
  -- All that an artifact depends on, however far: SELECT ancestor_id FROM lineage_up WHERE artifact_id = '...'.
  SELECT r.artifact_id, d.name AS dataset, ancestor.artifact_id AS ancestor_id, ancestor.class_name
  FROM records AS r
  JOIN datasets AS d ON d.dataset_key = r.dataset_key
  JOIN json_each((
    WITH RECURSIVE up (record_key) AS (
      SELECT source_key FROM record_sources WHERE record_key = r.record_key
      UNION
      SELECT rs.source_key FROM up JOIN record_sources AS rs ON rs.record_key = up.record_key
    )
    SELECT json_group_array(record_key) FROM up)) AS reached
  JOIN records AS ancestor ON ancestor.record_key = reached.value;

CREATE VIEW lineage_down AS
  -- All that depends on an artifact, however far: SELECT descendant_id FROM lineage_down WHERE artifact_id = '...'.
  SELECT r.artifact_id, d.name AS dataset, descendant.artifact_id AS descendant_id, descendant.class_name
  FROM records AS r
  JOIN datasets AS d ON d.dataset_key = r.dataset_key
  JOIN json_each((
    WITH RECURSIVE down (record_key) AS (
      SELECT record_key FROM record_sources WHERE source_key = r.record_key
      UNION
      SELECT rs.record_key FROM down JOIN record_sources AS rs ON rs.source_key = down.record_key
    )
    SELECT json_group_array(record_key) FROM down)) AS reached
  JOIN records AS descendant ON descendant.record_key = reached.value;

CREATE VIEW shared_blobs AS
  -- What shares a blob: one row for each artifact whose content another artifact has too.
  SELECT 'sha256:' || lower(hex(b.content_hash)) AS content_hash, r.artifact_id, d.name AS dataset,
    b.size_bytes, (SELECT count(*) FROM records AS other WHERE other.blob_key = r.blob_key) AS shared_by
  FROM records AS r
  JOIN datasets AS d ON d.dataset_key = r.dataset_key
  JOIN blobs AS b ON b.blob_key = r.blob_key
  WHERE EXISTS (SELECT 1 FROM records AS other WHERE other.blob_key = r.blob_key AND other.record_key <> r.record_key);

CREATE VIEW orphan_blobs AS
  -- Content that no record reaches, directly or as a part: what `artifactdb gc` removes.
  SELECT b.blob_key, 'sha256:' || lower(hex(b.content_hash)) AS content_hash, b.size_bytes, b.stored_bytes, b.created_at
  FROM blobs AS b
  WHERE NOT EXISTS (SELECT 1 FROM records AS r WHERE r.blob_key = b.blob_key)
    AND NOT EXISTS (
      SELECT 1 FROM blob_parts AS bp JOIN records AS r ON r.blob_key = bp.blob_key WHERE bp.part_key = b.blob_key);

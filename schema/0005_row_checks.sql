-- artifactdb, schema 5: foreign keys that name their column, as some viewers need it; who an event was about, by an index;
-- and a checksum of what each row says, wherever nothing else in the file tells of a wrong bit.

-- No content changes with it, so that tables of many gigabytes are not written anew: https://sqlite.org/lang_altertable.html
PRAGMA writable_schema = ON;
UPDATE sqlite_schema SET sql =
  replace(replace(replace(replace(replace(replace(replace(replace(replace(replace(replace(replace(sql,
    'REFERENCES datasets ON', 'REFERENCES datasets (dataset_key) ON'),
    'REFERENCES pipelines ON', 'REFERENCES pipelines (pipeline_key) ON'),
    'REFERENCES chains ON', 'REFERENCES chains (chain_key) ON'),
    'REFERENCES parameter_sets ON', 'REFERENCES parameter_sets (parameter_set_key) ON'),
    'REFERENCES environments ON', 'REFERENCES environments (environment_key) ON'),
    'REFERENCES blobs ON', 'REFERENCES blobs (blob_key) ON'),
    'REFERENCES records ON', 'REFERENCES records (record_key) ON'),
    'REFERENCES catalog_files ON', 'REFERENCES catalog_files (file_key) ON'),
    'REFERENCES run_entries ON', 'REFERENCES run_entries (run_key) ON'),
    'REFERENCES library_entries ON', 'REFERENCES library_entries (entry_key) ON'),
    'REFERENCES signers ON', 'REFERENCES signers (signer_key) ON'),
    'REFERENCES actors ON', 'REFERENCES actors (actor_key) ON')
WHERE type = 'table';
UPDATE sqlite_schema SET sql = replace(sql, char(10) || ') STRICT', char(10)
  || '  , row_check INTEGER NOT NULL DEFAULT 8589934592 -- checksum of all else in the row; the default: not ours, docs/format.md'
  || char(10) || ') STRICT')
WHERE type = 'table' AND name IN ('blobs', 'catalog_files', 'datasets', 'identity', 'staged_arrays', 'staged_predictions',
  'trained_pipelines', 'workspace_signatures');
UPDATE sqlite_schema SET sql = replace(sql, iif(instr(sql, char(10) || '  UNIQUE ('), char(10) || '  UNIQUE (', char(10) || '  PRIMARY KEY ('), char(10)
  || '  row_check INTEGER NOT NULL DEFAULT 8589934592, -- checksum of all else in the row; the default: not ours, docs/format.md'
  || iif(instr(sql, char(10) || '  UNIQUE ('), char(10) || '  UNIQUE (', char(10) || '  PRIMARY KEY ('))
WHERE type = 'table' AND name IN ('actors', 'history', 'library_artifacts', 'library_entries', 'pipelines', 'records', 'run_entries',
  'signatures', 'signers');
PRAGMA writable_schema = RESET;
-- The checks themselves are computed by artifactdb, right after this file.

DROP VIEW events;
CREATE INDEX history_of_gone ON history (record_key, event_index) WHERE artifact_id IS NOT NULL;
CREATE VIEW events AS
  -- What happened, with who did it: SELECT * FROM events WHERE artifact_id = '...' ORDER BY happened_at.
  SELECT h.happened_at, h.act,
    coalesce(r.artifact_id, h.artifact_id, (
      SELECT gone.artifact_id FROM history AS gone INDEXED BY history_of_gone
      WHERE gone.record_key = h.record_key AND gone.artifact_id IS NOT NULL
      ORDER BY gone.event_index DESC LIMIT 1)) AS artifact_id,
    a.user, a.host, a.process, a.version, h.details
  FROM history AS h
  JOIN actors AS a ON a.actor_key = h.actor_key
  LEFT JOIN records AS r ON r.record_key = h.record_key;

-- artifactdb, schema 4: who signed what, and what happened to the workspace. Tables first, then views.

CREATE TABLE identity (
  -- One row: what tells this workspace and its copies from others.
  workspace_id BLOB NOT NULL CHECK (length(workspace_id) = 16) -- random; keys for signatures in it are made from it
) STRICT;
INSERT INTO identity VALUES (randomblob(16));

CREATE TABLE signers (
  -- Who signed records. Names are as the signers give them; only the key id is proof of anything.
  signer_key INTEGER PRIMARY KEY, -- internal number
  scheme TEXT NOT NULL CHECK (scheme IN ('blake2b', 'ed25519')),
    -- blake2b: a user's own key, which only that user can check; ed25519: a key pair, which anyone can
  key_id TEXT NOT NULL, -- 16 hex digits that name the key; see docs/format.md
  material BLOB NOT NULL, -- blake2b: workspace_id of where it was signed; ed25519: the public key, 32 bytes
  name TEXT NOT NULL, -- e.g. ada; '' for none
  UNIQUE (key_id, scheme, material)
) STRICT;

ALTER TABLE records ADD COLUMN signer_key INTEGER -- the user who wrote or vouched for it; NULL: nobody did
  REFERENCES signers ON DELETE RESTRICT;
ALTER TABLE records ADD COLUMN signature BLOB -- keyed BLAKE2b over artifact id, content hash and format; docs/format.md
  CHECK (length(signature) = 32);

CREATE TABLE signatures (
  -- Signatures that anyone can check who has the public key, by what they say; records and library entries look here.
  statement BLOB NOT NULL CHECK (length(statement) = 32), -- SHA-256 over artifact id, content hash and format
  signer_key INTEGER NOT NULL REFERENCES signers ON DELETE RESTRICT,
  signature BLOB NOT NULL CHECK (length(signature) = 64), -- Ed25519
  PRIMARY KEY (statement, signer_key)
) STRICT, WITHOUT ROWID;

CREATE TABLE workspace_signatures (
  -- Signatures over all records at once: with them it shows what was added, removed or changed since.
  workspace_signature_key INTEGER PRIMARY KEY AUTOINCREMENT, -- internal number, never used again
  signer_key INTEGER NOT NULL REFERENCES signers ON DELETE RESTRICT,
  signed_at TEXT NOT NULL, -- ISO 8601, UTC
  contents BLOB NOT NULL, -- one line for each record, sorted, in one Zstandard frame; docs/format.md
  size_bytes INTEGER NOT NULL CHECK (size_bytes >= 0), -- of the lines, decompressed
  root BLOB NOT NULL CHECK (length(root) = 32), -- SHA-256 of the lines
  signature BLOB NOT NULL CHECK (length(signature) = 64) -- Ed25519 over root and time
) STRICT;

CREATE TABLE actors (
  -- Who did something: one process of one user. Written down, not proven.
  actor_key INTEGER PRIMARY KEY, -- internal number
  user TEXT NOT NULL, -- name of the account; '' for not known
  host TEXT NOT NULL, -- name of the machine
  process TEXT NOT NULL, -- its number on that machine
  version TEXT NOT NULL, -- artifactdb's
  UNIQUE (user, host, process, version)
) STRICT;

CREATE TABLE history (
  -- What happened to records and to the workspace; artifactdb only ever adds to it.
  record_key INTEGER NOT NULL, -- also of a record that is gone; 0: the workspace as a whole
  event_index INTEGER NOT NULL CHECK (event_index >= 0), -- order of what happened to that record, from 0
  happened_at TEXT NOT NULL, -- ISO 8601, UTC
  actor_key INTEGER NOT NULL REFERENCES actors ON DELETE RESTRICT,
  act TEXT NOT NULL, -- added, imported, merged, replaced, deleted, trusted, signed, packed, ...
  artifact_id TEXT, -- of a record that was deleted, so that it is found; else NULL
  details TEXT CHECK (json_valid(details)), -- JSON object, e.g. the content before and after; NULL: none
  PRIMARY KEY (record_key, event_index)
) STRICT, WITHOUT ROWID;
CREATE INDEX history_of_deleted ON history (artifact_id) WHERE artifact_id IS NOT NULL;

CREATE VIEW events AS
  -- What happened, with who did it: SELECT * FROM events WHERE artifact_id = '...' ORDER BY happened_at.
  SELECT h.happened_at, h.act, coalesce(r.artifact_id, h.artifact_id, gone.artifact_id) AS artifact_id,
    a.user, a.host, a.process, a.version, h.details
  FROM history AS h
  JOIN actors AS a ON a.actor_key = h.actor_key
  LEFT JOIN records AS r ON r.record_key = h.record_key
  LEFT JOIN history AS gone ON gone.record_key = h.record_key AND gone.artifact_id IS NOT NULL;

DROP VIEW artifacts;
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
    r.format IN ('arrow', 'data', 'json', 'safetensors') AS data_only, -- 1: loading it runs no code, whoever wrote it
    r.format_version,
    e.versions,
    g.key_id AS signed_by, -- as the record says; NULL: by nobody
    r.created_at
  FROM records AS r
  JOIN datasets AS d ON d.dataset_key = r.dataset_key
  JOIN pipelines AS p ON p.pipeline_key = r.pipeline_key
  JOIN parameter_sets AS s ON s.parameter_set_key = r.parameter_set_key
  JOIN environments AS e ON e.environment_key = r.environment_key
  JOIN blobs AS b ON b.blob_key = r.blob_key
  LEFT JOIN signers AS g ON g.signer_key = r.signer_key
  LEFT JOIN chains AS c ON c.chain_key = r.chain_key;

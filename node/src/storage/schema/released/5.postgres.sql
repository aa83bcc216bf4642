-- Keys of other forms in which clients send the same password: pairs of stored and server key, joined.
ALTER TABLE account ADD COLUMN sha1_others BYTEA;
ALTER TABLE account ADD COLUMN sha256_others BYTEA;

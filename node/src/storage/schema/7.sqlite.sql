-- Keys for SCRAM-SHA-512. Accounts that were made before have none.
ALTER TABLE account ADD COLUMN sha512_salt BLOB;
ALTER TABLE account ADD COLUMN sha512_iterations BIGINT;
ALTER TABLE account ADD COLUMN sha512_stored BLOB;
ALTER TABLE account ADD COLUMN sha512_server BLOB;
ALTER TABLE account ADD COLUMN sha512_others BLOB;
CREATE INDEX account_without_sha512 ON account (domain) WHERE sha512_stored IS NULL;
-- Tokens for fast authentication. What is here becomes a token only with the nodes' key.
CREATE TABLE fast_token (
    account TEXT NOT NULL,
    agent TEXT NOT NULL,
    slot BIGINT NOT NULL,
    mechanism TEXT NOT NULL,
    seed BLOB NOT NULL,
    issued BIGINT NOT NULL,
    expires BIGINT NOT NULL,
    PRIMARY KEY (account, agent, slot)
);

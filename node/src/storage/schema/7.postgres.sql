-- Keys for SCRAM-SHA-512. Accounts that were made before have none.
ALTER TABLE account ADD COLUMN sha512_salt BYTEA;
ALTER TABLE account ADD COLUMN sha512_iterations BIGINT;
ALTER TABLE account ADD COLUMN sha512_stored BYTEA;
ALTER TABLE account ADD COLUMN sha512_server BYTEA;
ALTER TABLE account ADD COLUMN sha512_others BYTEA;
CREATE INDEX account_without_sha512 ON account (domain) WHERE sha512_stored IS NULL;
-- Tokens for fast authentication. What is here becomes a token only with the nodes' key.
CREATE TABLE fast_token (
    account TEXT NOT NULL,
    agent TEXT NOT NULL,
    slot BIGINT NOT NULL,
    mechanism TEXT NOT NULL,
    seed BYTEA NOT NULL,
    issued BIGINT NOT NULL,
    expires BIGINT NOT NULL,
    PRIMARY KEY (account, agent, slot)
);

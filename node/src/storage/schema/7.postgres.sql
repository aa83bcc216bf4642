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
-- A session that goes on although its account has changed, since it has changed it; and how long the others have yet,
-- in milliseconds.
ALTER TABLE revocation ADD COLUMN spared TEXT;
ALTER TABLE revocation ADD COLUMN grace BIGINT NOT NULL DEFAULT 0;
-- Invitations, by the hash of their tokens. The purpose is 0 for an account, 1 for a contact and 2 for either. One that
-- an account was made with stays until that account and the one that invited it are contacts; one that a contact has
-- shown is settled at once, and stays for a while so that a second look finds it again.
CREATE TABLE invitation (
    id TEXT NOT NULL PRIMARY KEY,
    digest BYTEA NOT NULL UNIQUE,
    domain TEXT NOT NULL,
    reserved TEXT,
    contact TEXT,
    created BIGINT NOT NULL,
    expires BIGINT NOT NULL,
    used_by TEXT,
    inviter TEXT,
    purpose BIGINT NOT NULL DEFAULT 0,
    settled BIGINT NOT NULL DEFAULT 0
);
CREATE UNIQUE INDEX invitation_reserved ON invitation (reserved) WHERE used_by IS NULL;
CREATE INDEX invitation_contact ON invitation (contact);
CREATE INDEX invitation_inviter ON invitation (inviter);
-- Names of removed accounts, which nobody gets for a while who registers by himself.
CREATE TABLE retired_name (
    jid TEXT NOT NULL PRIMARY KEY,
    until BIGINT NOT NULL
);
-- Accounts of which an import has not kept all yet. Nobody uses them meanwhile.
CREATE TABLE unfinished_account (
    account TEXT NOT NULL PRIMARY KEY
);

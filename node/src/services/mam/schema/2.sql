-- What users want their archives to keep (XEP-0441). Without a row the operator's default holds.
CREATE TABLE archive_preference (
    account TEXT NOT NULL PRIMARY KEY,
    fallback TEXT NOT NULL
);

-- Other parties whose messages are kept or not, whatever the fallback says.
CREATE TABLE archive_exception (
    account TEXT NOT NULL,
    party TEXT NOT NULL,
    keep BIGINT NOT NULL,
    PRIMARY KEY (account, party)
);

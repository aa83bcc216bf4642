-- Contacts of accounts that are removed, until they have heard of it. Each row is as the account's roster had it.
CREATE TABLE departed_contact (
    leaver TEXT NOT NULL,
    contact TEXT NOT NULL,
    subscription TEXT NOT NULL,
    ask BIGINT NOT NULL,
    pending BIGINT NOT NULL,
    PRIMARY KEY (leaver, contact)
);

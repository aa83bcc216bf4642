-- What a contact takes in the roster that is sent to its owner. For those that are there it is an estimate
-- until they change.
ALTER TABLE roster ADD COLUMN bytes BIGINT NOT NULL DEFAULT 0;
UPDATE roster
SET bytes = 60 + length(contact) + 2 * coalesce(length(name), 0) + 2 * length(contact_groups)
WHERE listed = 1 AND removed = 0;

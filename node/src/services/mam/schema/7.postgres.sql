-- For PostgreSQL.

-- Ids begin with the time, so that new rows of all owners lie beside each other in an index that begins with them: a
-- transaction changes a few pages of it, and not one for each owner.
ALTER TABLE archive DROP CONSTRAINT archive_pkey, ADD PRIMARY KEY (mid, owner);

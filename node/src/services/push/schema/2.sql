-- Services that wake a user's devices (XEP-0357), each enabled by a client, named by its resource.
CREATE TABLE push (
    account TEXT NOT NULL,
    service TEXT NOT NULL,
    node TEXT NOT NULL,
    resource TEXT NOT NULL,
    options TEXT,
    PRIMARY KEY (account, service, node)
);
CREATE INDEX push_resource ON push (account, resource);

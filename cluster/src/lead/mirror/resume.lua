-- A session is awake again.
-- KEYS: hibernated, old, limits. ARGV: seconds to live, resource.
redis.call('ZREM', KEYS[1], ARGV[2])
return {redis.call('HMGET', KEYS[3], 'hibernated', 'old', 'version'), {}}

-- A session is over: it is remembered, and the oldest beyond the limit are forgotten.
-- KEYS: hibernated, old, limits. ARGV: seconds to live, resource, digest, until, configured limit.
redis.call('ZREM', KEYS[1], ARGV[2])
local set = redis.call('HMGET', KEYS[3], 'hibernated', 'old', 'version')
local limit = tonumber(set[2] or ARGV[5]) or tonumber(ARGV[5])
redis.call('ZADD', KEYS[2], ARGV[4], ARGV[3])
redis.call('ZREMRANGEBYRANK', KEYS[2], 0, -1 - limit)
redis.call('EXPIRE', KEYS[2], ARGV[1])
return {set, {}}

-- A session falls asleep: it is counted, and the oldest beyond the limit are counted no longer.
-- KEYS: hibernated, old, limits. ARGV: seconds to live, resource, since, configured limit.
redis.call('ZADD', KEYS[1], ARGV[3], ARGV[2])
local set = redis.call('HMGET', KEYS[3], 'hibernated', 'old', 'version')
local limit = tonumber(set[1] or ARGV[4]) or tonumber(ARGV[4])
local surplus = redis.call('ZCARD', KEYS[1]) - limit
local evicted = {}
if surplus > 0 then
    evicted = redis.call('ZRANGE', KEYS[1], 0, surplus - 1)
    redis.call('ZREMRANGEBYRANK', KEYS[1], 0, surplus - 1)
end
redis.call('EXPIRE', KEYS[1], ARGV[1])
return {set, evicted}

-- An account's limits become what the shard says, unless newer ones are here.
-- KEYS: hibernated, old, limits. ARGV: seconds to live, version, 'hibernated' or '', 'old' or ''.
local found = redis.call('TYPE', KEYS[3]).ok
local known = found == 'hash' and tonumber(redis.call('HGET', KEYS[3], 'version'))
if not known or known <= tonumber(ARGV[2]) then
    redis.call('DEL', KEYS[3])
    redis.call('HSET', KEYS[3], 'version', ARGV[2])
    if ARGV[3] ~= '' then
        redis.call('HSET', KEYS[3], 'hibernated', ARGV[3])
    end
    if ARGV[4] ~= '' then
        redis.call('HSET', KEYS[3], 'old', ARGV[4])
    end
end
redis.call('EXPIRE', KEYS[3], ARGV[1])
return {redis.call('HMGET', KEYS[3], 'hibernated', 'old', 'version'), {}}

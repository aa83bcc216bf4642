-- Both sets become what the shard says, unless they are already; keys of other types make room.
-- KEYS: hibernated, old, limits. ARGV: seconds to live, how many hibernate, how many are old, then for
-- each of them, in order, score and member.
local function is(key, type)
    local found = redis.call('TYPE', key).ok
    if found ~= type and found ~= 'none' then
        redis.call('DEL', key)
    end
end

local function agree(key, first, count)
    is(key, 'zset')
    local known = redis.call('ZRANGE', key, 0, -1)
    local same = #known == count
    for n = 1, count do
        same = same and known[n] == ARGV[first + 2 * n - 1]
    end
    if not same then
        redis.call('DEL', key)
        for n = 1, count do
            redis.call('ZADD', key, ARGV[first + 2 * n - 2], ARGV[first + 2 * n - 1])
        end
    end
    redis.call('EXPIRE', key, ARGV[1])
end

local hibernated, old = tonumber(ARGV[2]), tonumber(ARGV[3])
agree(KEYS[1], 4, hibernated)
agree(KEYS[2], 4 + 2 * hibernated, old)
is(KEYS[3], 'hash')
return {redis.call('HMGET', KEYS[3], 'hibernated', 'old', 'version'), {}}

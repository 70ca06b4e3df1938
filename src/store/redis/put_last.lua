-- Replaces the earlier result of a restaurant, unless that is of a newer epoch.
-- KEYS[1]: a hash with `epoch` and `value`. ARGV: epoch, value, seconds to live.
-- Epochs are of 20 digits, so that the order of the texts is that of the numbers: Lua's numbers end at 2^53.
local kept = redis.call('HGET', KEYS[1], 'epoch')
if kept and kept > ARGV[1] then
    return 0
end
redis.call('HSET', KEYS[1], 'epoch', ARGV[1], 'value', ARGV[2])
redis.call('EXPIRE', KEYS[1], ARGV[3])
return 1

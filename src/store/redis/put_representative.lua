-- Replaces a representative vector if the kept one is the one that the writer knows.
-- KEYS[1]: a hash with `digest` and `value`. ARGV: the expected digest ("": none is kept), digest, value, seconds to live.
local kept = redis.call('HGET', KEYS[1], 'digest') or ''
if kept ~= ARGV[1] then
    return 0
end
redis.call('HSET', KEYS[1], 'digest', ARGV[2], 'value', ARGV[3])
redis.call('EXPIRE', KEYS[1], ARGV[4])
return 1

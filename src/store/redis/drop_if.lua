-- Drops a value that cannot be read, unless it was replaced meanwhile.
-- KEYS[1]: a hash. ARGV: the field that tells versions apart, its value as it was read.
if redis.call('HGET', KEYS[1], ARGV[1]) == ARGV[2] then
    return redis.call('UNLINK', KEYS[1])
end
return 0

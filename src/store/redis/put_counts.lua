-- Replaces a restaurant's share in the running totals of a reader, as one step: nobody sees totals without their share.
-- KEYS[1]: a hash with the field "s:<restaurant>" for each share and "n:", "r:" and "p:<aspect>" for the totals.
-- ARGV: restaurant, share ("<reviews>,<positive of aspect 0>,<of aspect 1>,..."), seconds to live.
-- Numbers stay text and are added by the server, in 64 bits: Lua's own are doubles.
local function add(share, sign)
    local function by(field, number)
        if number ~= '0' then
            redis.call('HINCRBY', KEYS[1], field, sign .. number)
        end
    end
    local reviews, aspect = nil, 0
    for number in string.gmatch(share, '%d+') do
        if reviews then
            by('n:' .. aspect, '1')
            by('r:' .. aspect, reviews)
            by('p:' .. aspect, number)
            aspect = aspect + 1
        else
            reviews = number
        end
    end
end

local field = 's:' .. ARGV[1]
local before = redis.call('HGET', KEYS[1], field)
if before then
    add(before, '-')
end
add(ARGV[2], '')
redis.call('HSET', KEYS[1], field, ARGV[2])
redis.call('EXPIRE', KEYS[1], ARGV[3])
return 1

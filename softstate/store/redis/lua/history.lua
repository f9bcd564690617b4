-- Lineage rows: how the library notices that the data under it was put back.
--
-- The library remembers, outside the data, where it left each image. While what it finds is exactly that, history goes
-- on. Whenever it is not, a lineage row is begun before the first change: after a restart, a failover or a reloaded
-- library, which forget, and after the data was restored, flushed or synchronised from another server, which do not
-- agree. So no two changes are made with the same lineage and revision: the second would have to be made by a
-- library that remembers being just before it, and the one that made the first remembers being past it.

-- Image -> position. Forgetting costs a superfluous row, which is harmless.
local left = {}
local images = 0
local IMAGES_MAX = 1024

local function remember(store)
  if not left[store.image] then
    if images >= IMAGES_MAX then
      left, images = {}, 0
    end
    images = images + 1
  end
  left[store.image] = position_of(store)
end

-- A random name: INFO has the random id of this run of the server, which makes no two rows at one microsecond.
local function nonce(store)
  local now = redis.call('TIME')
  local seed = { redis.call('INFO', 'server'), now[1], now[2], store.image, decimal(store.head) }
  return redis.sha1hex(table.concat(seed, ' ')):sub(1, 16)
end

-- The head is written before what it covers: if a command fails half way, no revision will be used twice.
local function move_head(store, head)
  store.head = head
  redis.call('HSET', store.meta, 'head', decimal(head))
end

local function begin_lineage(store)
  move_head(store, store.head + 1)
  store.lineage, store.start = nonce(store), store.head
  redis.call('HSET', store.meta, 'lineage', store.lineage, 'start', decimal(store.start))
  redis.call('ZADD', store.at .. 'lineage', decimal(store.start), store.lineage)
end

-- To be called before the first change of each call that changes anything.
local function continue_history(store)
  if left[store.image] ~= position_of(store) then
    begin_lineage(store)
  end
end

-- To be called after the last. Waking is best effort: a user who may not publish on the channel may still change topics.
local function end_changes(store)
  remember(store)
  redis.pcall('PUBLISH', store.channel, position_of(store))
end

redis.register_function {
  function_name = 'softstate_open',
  -- Namespace; a random image and epoch, to create a store with if there is none.
  callback = function(keys, arguments)
    local store, trouble = load_store(keys[1])
    if not store and trouble:find('^NOSTORE') then
      redis.call('HSET', '{' .. keys[1] .. '}:meta', 'layout', LAYOUT, 'image', arguments[1], 'epoch', arguments[2],
        'head', '0', 'floor', '0', 'lineage', '', 'start', '1')
      store, trouble = load_store(keys[1])
    end
    if not store then
      return redis.error_reply(trouble)
    end
    begin_lineage(store)
    end_changes(store)
    return { state_of(store, position_of(store)) }
  end,
}

serve('head', { 'no-writes' }, function(store, arguments)
  return { state_of(store, arguments[1]) }
end)

serve('lineage_at', { 'no-writes' }, function(store, arguments)
  local lineages = {}
  for index = 2, #arguments do
    lineages[index - 1] = lineage_at(store, tonumber(arguments[index]))
  end
  return { state_of(store, arguments[1]), lineages }
end)

serve('info', { 'no-writes' }, function(store, arguments)
  local bytes = 0
  for _, part in ipairs { 'value', 'live:/', 'dead:/', 'lineage', 'key', 'keylog' } do
    bytes = bytes + (redis.call('MEMORY', 'USAGE', store.at .. part) or 0)
  end
  return {
    state_of(store, arguments[1]),
    redis.call('ZCARD', store.at .. 'live:/'),
    redis.call('ZCARD', store.at .. 'dead:/'),
    redis.call('ZCARD', store.at .. 'keylog'),
    bytes,
  }
end)

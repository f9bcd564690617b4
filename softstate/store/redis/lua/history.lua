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
  redis.call('HSET', store.meta, 'head', decimal(head), 'sum', meta_sum(store))
end

local function begin_lineage(store)
  store.head = store.head + 1
  store.lineage, store.start = nonce(store), store.head
  save_meta(store)
  redis.call('ZADD', store.at .. 'lineage', decimal(store.start), row_entry(decimal(store.start), store.lineage))
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

-- An error if a lineage row is damaged: then no position can be trusted.
local function rows_fault(store)
  local found = redis.call('ZRANGE', store.at .. 'lineage', 0, -1, 'WITHSCORES')
  for index = 1, #found, 2 do
    if not row_lineage(found[index], decimal(tonumber(found[index + 1]))) then
      return 'BROKEN the lineage row at revision ' .. found[index + 1] .. ' is damaged'
    end
  end
end

-- The newest position, without a row: for those that only read, and while the server refuses to write.
serve(for_nodes('look'), { 'no-writes' }, function(store)
  local fault = rows_fault(store)
  if fault then
    return redis.error_reply(fault)
  end
  return { state_of(store, position_of(store)) }
end)

redis.register_function {
  function_name = for_nodes('open'),
  -- Namespace; a random image and epoch, to create a store with if there is none.
  callback = function(keys, arguments)
    local store, trouble = load_store(keys[1], LAYOUT)
    if not store and trouble:find('^NOSTORE') and arguments[1] then
      local meta = '{' .. keys[1] .. '}:meta'
      save_meta { meta = meta, image = arguments[1], epoch = arguments[2], head = 0, floor = 0, lineage = '', start = 1 }
      store, trouble = load_store(keys[1], LAYOUT)
    end
    trouble = trouble or rows_fault(store)
    if trouble then
      return redis.error_reply(trouble)
    end
    begin_lineage(store)
    end_changes(store)
    return { state_of(store, position_of(store)) }
  end,
}

serve(for_nodes('head'), { 'no-writes' }, function(store, arguments)
  return { state_of(store, arguments[1]) }
end)

serve(for_nodes('lineage_at'), { 'no-writes' }, function(store, arguments)
  local lineages = {}
  for index = 2, #arguments do
    lineages[index - 1] = lineage_at(store, tonumber(arguments[index]))
  end
  return { state_of(store, arguments[1]), lineages }
end)

serve(for_nodes('info'), { 'no-writes' }, function(store, arguments)
  local bytes = 0
  for _, part in ipairs { 'record', 'live:/', 'dead:/', 'lineage', 'key', 'keylog', 'publisher', 'publisherlog' } do
    bytes = bytes + (redis.call('MEMORY', 'USAGE', store.at .. part) or 0)
  end
  return {
    state_of(store, arguments[1]),
    redis.call('ZCARD', store.at .. 'live:/'),
    redis.call('ZCARD', store.at .. 'dead:/'),
    redis.call('ZCARD', store.at .. 'keylog'),
    bytes,
    redis.call('ZCARD', store.at .. 'publisherlog'),
  }
end)

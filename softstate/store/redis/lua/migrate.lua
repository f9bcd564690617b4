-- Carrying a store of layout 1 over: its image is read page by page, built again aside, and put in place in one step. A
-- crash before that leaves an image that is swept away, and everything as it was; a commit meanwhile has it begin again.

local OLD = '1'

-- after which revision, limit, limit_bytes. Answers with epoch, head, floor, and a page as of `dump`, whose records have
-- no sums; false for one whose value is gone.
serve(for_nodes('old'), { 'no-writes' }, function(store, arguments)
  local after, limit, limit_bytes = unpack(arguments)
  limit = tonumber(limit)
  local scans = { { prefix = '/', after = tonumber(after), tombstones = true } }
  local page, flat, size = merge(store, scans, {}, limit), {}, 0
  local more = #page > limit
  for index = 1, math.min(#page, limit) do
    local entry = page[index]
    local value = entry.live and redis.call('HGET', store.at .. 'value', entry.topic)
    for _, part in ipairs { entry.topic, entry.live and entry.version or -entry.version, value } do
      flat[#flat + 1] = part
    end
    size = size + (value and #value or 0)
    if size >= tonumber(limit_bytes) then
      more = more or index < #page
      break
    end
  end
  local key = store.at .. 'lineage'
  local rows = redis.call('ZRANGEBYSCORE', key, '(' .. after, '+inf', 'WITHSCORES', 'LIMIT', 0, decimal(limit + 1))
  return { store.epoch, store.head, store.floor, more and 1 or 0, flat, rows, keys_above(store, after, limit, false) }
end, OLD)

serve(for_nodes('old_begin'), {}, function(store, arguments)
  redis.call('SADD', store.debris, arguments[1])
  return 1
end, OLD)

serve(for_nodes('old_stage'), {}, stage, OLD)

-- image, and the head that it was built at. The lineage goes on: the next call that changes anything begins a row.
serve(for_nodes('carry_over'), {}, function(store, arguments)
  local image = arguments[1]
  if not is_debris(store, image) or store.head ~= tonumber(arguments[2]) then
    return redis.error_reply('TAKENOVER the store has changed while it was carried over')
  end
  redis.call('SADD', store.swept, store.image)
  redis.call('SREM', store.debris, image)
  store.image, store.at = image, image_at(store.namespace, image)
  save_meta(store)
  return 1
end, OLD)

-- Merging sorted sets into one page, in version order: a heap of sources, each of which is asked for more only when it
-- has come to its end. So a page costs about what it holds, and one step for each set, however much there is in them.

-- Entries asked for when a source has come to its end and the page has not.
local MORE_ENTRIES = 64

-- Entries that all sources together are asked for at first, for each record of the page.
local ENTRIES_A_RECORD = 2

-- A source has `items`, the entries { topic =, version =, live = } at hand, and is at `index` of them; `version` is
-- that of the entry it is at. Asks the sorted set for `count` more of them, up to the head; returns whether there are any.
local function refill(source, count)
  local found = redis.call('ZRANGEBYSCORE', source.key, '(' .. decimal(source.after), decimal(source.head), 'WITHSCORES',
    'LIMIT', 0, decimal(count))
  local items = {}
  for index = 1, #found, 2 do
    items[#items + 1] = { topic = found[index], version = tonumber(found[index + 1]), live = source.live }
  end
  if #items == 0 then
    return false
  end
  source.items, source.index, source.dry = items, 1, #items < count
  source.version, source.after = items[1].version, items[#items].version
  return true
end

-- Moves a source to its next entry; returns whether there is one.
local function advance(source)
  source.index = source.index + 1
  local entry = source.items[source.index]
  if entry then
    source.version = entry.version
    return true
  end
  return not source.dry and refill(source, MORE_ENTRIES)
end

-- Restores the order of the heap below a place whose source may have become too large for it.
local function sift(heap, place)
  local moved = heap[place]
  while 2 * place <= #heap do
    local child = 2 * place
    if child < #heap and heap[child + 1].version < heap[child].version then
      child = child + 1
    end
    if moved.version <= heap[child].version then
      break
    end
    heap[place] = heap[child]
    place = child
  end
  heap[place] = moved
end

-- One source of each set that scans { prefix =, after =, tombstones = } name, and one of entries given, if there are
-- any to begin with.
local function sources_of(store, scans, entries, limit)
  local sets, sources = {}, {}
  for _, scan in ipairs(scans) do
    for _, live in ipairs(scan.tombstones and { true, false } or { true }) do
      local key = store.at .. (live and 'live:' or 'dead:') .. scan.prefix
      sets[#sets + 1] = { key = key, live = live, after = scan.after, head = store.head }
    end
  end
  local count = math.min(limit + 1, math.ceil(ENTRIES_A_RECORD * (limit + 1) / math.max(1, #sets)))
  for _, set in ipairs(sets) do
    if refill(set, count) then
      sources[#sources + 1] = set
    end
  end
  if #entries > 0 then
    table.sort(entries, function(one, other) return one.version < other.version end)
    sources[#sources + 1] = { items = entries, index = 1, dry = true, version = entries[1].version }
  end
  return sources
end

-- The entries of a page, in version order, each once; one more than `limit` if there are more. Two topics share a version
-- only if one of them is damaged, and neither hides the other.
local function merge(store, scans, entries, limit)
  local heap, page, version, same = sources_of(store, scans, entries, limit), {}, 0, {}
  for place = math.floor(#heap / 2), 1, -1 do
    sift(heap, place)
  end
  while #heap > 0 and #page <= limit do
    local source = heap[1]
    local entry = source.items[source.index]
    if source.version ~= version then
      version, same = source.version, {}
    end
    if not same[entry.topic] then
      same[entry.topic] = true
      page[#page + 1] = entry
    end
    if not advance(source) then
      heap[1] = heap[#heap]
      heap[#heap] = nil
    end
    if #heap > 0 then
      sift(heap, 1)
    end
  end
  return page
end

-- Topics under the prefixes of scans from the beginning whose version is not one of this history: damaged. Few, at most
-- `limit` of each set.
local function unranked_of(store, scans, limit)
  local topics = {}
  for _, scan in ipairs(scans) do
    if scan.after == 0 then
      for _, side in ipairs { 'live:', 'dead:' } do
        local key = store.at .. side .. scan.prefix
        for _, range in ipairs { { '(' .. decimal(store.head), '+inf' }, { '-inf', '(1' } } do
          for _, topic in ipairs(redis.call('ZRANGEBYSCORE', key, range[1], range[2], 'LIMIT', 0, limit)) do
            topics[#topics + 1] = topic
          end
        end
      end
    end
  end
  return topics
end

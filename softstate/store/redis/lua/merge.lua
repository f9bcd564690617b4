-- Merging sorted sets into one page, in version order: a heap of sources, each of which is asked for more only when it
-- has come to its end. So a page costs about what it holds, and one step for each set, however much there is in them.

-- Entries asked for when a source has come to its end and the page has not.
local MORE_ENTRIES = 64

-- Entries that all sources together are asked for at first, for each record of the page.
local ENTRIES_A_RECORD = 2

-- A source has `items`, the entries { topic =, version =, live = } at hand, and is at `index` of them; `version` is
-- that of the entry it is at. Asks the sorted set for `count` more of them, up to the head; returns whether there are any.
-- `from` is the score to begin at, and `passed` how many at it were had already: damage can leave several at one.
local function refill(source, count)
  local found = redis.call('ZRANGEBYSCORE', source.key, source.from, decimal(source.head), 'WITHSCORES', 'LIMIT',
    decimal(source.passed), decimal(count))
  local items = {}
  for index = 1, #found, 2 do
    items[#items + 1] = { topic = found[index], version = tonumber(found[index + 1]), live = source.live }
  end
  if #items == 0 then
    return false
  end
  source.items, source.index, source.dry = items, 1, #items < count
  source.version = items[1].version
  local last = found[#found]
  source.passed = source.from == last and source.passed or 0
  source.from = last
  for index = #found, 2, -2 do
    if found[index] ~= last then
      break
    end
    source.passed = source.passed + 1
  end
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
      sets[#sets + 1] = { key = key, live = live, from = '(' .. decimal(scan.after), passed = 0, head = store.head }
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

-- The entries of a page, in version order, each once, and whether there are more; then the last is the first beyond it.
-- Two topics share a version only if one of them is damaged, and neither hides the other; so is one whose version is no
-- whole number. A cursor is a whole number, so a page may end only before an entry that begins another such version
-- (`cut`), and `limit` counts these versions: else a page could end where it began, or pass over a sound topic.
local function merge(store, scans, entries, limit)
  local heap, page, version, same = sources_of(store, scans, entries, limit), {}, 0, {}
  local whole, count = 0, 0
  for place = math.floor(#heap / 2), 1, -1 do
    sift(heap, place)
  end
  while #heap > 0 and count <= limit do
    local source = heap[1]
    local entry = source.items[source.index]
    if source.version ~= version then
      version, same = source.version, {}
    end
    if not same[entry.topic] then
      same[entry.topic] = true
      page[#page + 1] = entry
      if entry.version > whole and entry.version == math.floor(entry.version) then
        whole, count = entry.version, count + 1
        entry.cut = count > 1
      end
    end
    if not advance(source) then
      heap[1] = heap[#heap]
      heap[#heap] = nil
    end
    if #heap > 0 then
      sift(heap, 1)
    end
  end
  return page, count > limit
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

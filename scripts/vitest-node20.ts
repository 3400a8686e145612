/**
 * What vitest 5 needs on Node 20, which it runs on but does not count as supported: its reporter of failed tests and its
 * snapshots call `Map.groupBy` and `Object.groupBy`, which Node has from 21 on. They are added only to vitest's own process;
 * tests run in processes of their own and see what Node 20 really offers.
 */
const groupBy = <K, V>(items: Iterable<V>, keyOf: (item: V) => K): Map<K, Array<V>> => {
  const groups = new Map<K, Array<V>>()
  for (const item of items) {
    const key = keyOf(item)
    const group = groups.get(key)
    if (group === undefined) groups.set(key, [item])
    else group.push(item)
  }
  return groups
}

if (!("groupBy" in Map)) Object.assign(Map, { groupBy })
if (!("groupBy" in Object)) {
  Object.assign(Object, {
    groupBy: <V>(items: Iterable<V>, keyOf: (item: V) => string) => Object.fromEntries(groupBy(items, keyOf))
  })
}

import { assert, describe, it } from "@effect/vitest"
import { Headers } from "effect/http"
import { isPartial } from "../../../src/providers/aden/pages.ts"

const integrations = [{ integration_id: "a" }, { integration_id: "b" }]
const next = "https://aden.example.com/v1/credentials?page=2"

const partial = (fields: object, headers: Record<string, string> = {}, status = 200) =>
  isPartial({ integrations, ...fields }, { headers: Headers.fromInput(headers), status })

describe("a list may be incomplete", () => {
  for (
    const fields of [
      { next_cursor: "abc" },
      { nextCursor: "abc" },
      { next },
      { next: 2 },
      { next_page: 2 },
      { next_page_token: "abc" },
      { has_more: true },
      { hasMore: true },
      { pagination: { next_cursor: "abc" } },
      { pageInfo: { hasNextPage: true } },
      { _links: { next: { href: next } } },
      { meta: { total: 3 } },
      { total: 3 },
      { total_count: 130 }
    ]
  ) {
    it(`with ${JSON.stringify(fields)}`, () => assert.isTrue(partial(fields)))
  }

  for (
    const link of [
      `<${next}>; rel="next"`,
      `<${next}>; rel=next`,
      `<${next}>; title="more"; REL="next last"`,
      `<https://aden.example.com/>; rel="first", <${next}>; rel="next"`
    ]
  ) {
    it(`with Link: ${link}`, () => assert.isTrue(partial({}, { link })))
  }

  it("as an answer of status 206", () => assert.isTrue(partial({}, {}, 206)))
})

describe("a list is complete", () => {
  for (
    const fields of [
      {},
      { tenant_id: "tenant-123", next_cursor: null, has_more: false },
      { next_cursor: "", next: 0, hasMore: "false" },
      { pagination: { next: null, total: 2 } },
      { links: { self: next, next: null } },
      { total: 2 },
      { total: "130", page: 1, previous: next },
      { meta: "next" }
    ]
  ) {
    it(`with ${JSON.stringify(fields)}`, () => assert.isFalse(partial(fields)))
  }

  for (const link of [`<${next}>; rel="prev"`, `<${next}>; rel="next-archive"`, `<https://rel=next/>; rel="self"`]) {
    it(`with Link: ${link}`, () => assert.isFalse(partial({}, { link })))
  }

  it("whatever a field of one of its items is called", () =>
    assert.isFalse(isPartial(
      { integrations: [{ integration_id: "a", next: "b", has_more: true }] },
      { headers: Headers.empty, status: 200 }
    )))
})

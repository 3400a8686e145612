/**
 * Whether a list says that there is more than it holds. The contract has no pages, and the client reads none: such a list may
 * be incomplete.
 */
import * as Predicate from "effect/Predicate"
import type { Answer } from "./failures.ts"

/** The body of a list, with the fields that the contract does not know. */
type ListBody = { readonly integrations: ReadonlyArray<unknown> } & { readonly [field: string]: unknown }

/** Where servers put fields about pages, besides the top level. */
const groups = new Set(["pagination", "paging", "pageinfo", "page", "meta", "links"])

/** Names that announce a next page, in lower case and without separators. */
const announcements = new Set([
  "next",
  "nextcursor",
  "nextlink",
  "nextpage",
  "nextpagetoken",
  "nexttoken",
  "nexturl",
  "hasmore",
  "hasnext",
  "hasnextpage"
])

const totals = new Set(["total", "totalcount"])

/** Whether the list may lack integrations: its body, its status or its `Link` header tells of more. */
export const isPartial = (body: ListBody, { headers, status }: Pick<Answer, "headers" | "status">): boolean =>
  status === 206 || linksToNext(headers["link"] ?? "") || announcesMore(body, body.integrations.length) ||
  Object.entries(body).some(([name, group]) =>
    groups.has(plain(name)) && announcesMore(group, body.integrations.length)
  )

const announcesMore = (fields: unknown, count: number): boolean =>
  Predicate.isObject(fields) &&
  Object.entries(fields).some(([name, value]) =>
    announcements.has(plain(name))
      ? isAnnounced(value)
      : totals.has(plain(name)) && typeof value === "number" && value > count
  )

const plain = (name: string): string => name.toLowerCase().replace(/[^a-z]/g, "")

/** Servers say "no more" by leaving the field out, or by `null`, `false`, zero or an empty text. */
const isAnnounced = (value: unknown): boolean => Boolean(value) && value !== "false" && value !== "0"

/** RFC 8288: `<https://…>; rel="next"`, among other links and other relations. */
const linksToNext = (header: string): boolean =>
  /;\s*rel\s*=\s*(?:"(?:[^"]*\s)?next(?:\s[^"]*)?"|next\s*(?:[;,]|$))/i.test(header)

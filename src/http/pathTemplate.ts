/** A name that an API gives its parts: `contacts`, `oauth2`, `v3`, `v1.2`. */
const isName = (segment: string): boolean =>
  segment === "" || (segment.length <= 32 && /^[a-z][a-z_.-]*(?:\d{1,3}(?:\.\d{1,3})?)?$/i.test(segment))

/**
 * A path with `{id}` instead of segments that are not names, such as numbers, UUIDs and addresses, so that many requests share
 * one text. `/crm/v3/contacts/4711` becomes `/crm/v3/contacts/{id}`.
 */
export const pathTemplate = (path: string): string =>
  path.split("/").map((segment) => isName(segment) ? segment : "{id}").join("/")

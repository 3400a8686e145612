/** A name that an API gives its parts: `contacts`, `oauth2`, `v3`, `v1.2`. */
const isName = (segment: string): boolean =>
  segment === "" || (segment.length <= 32 && /^[a-z][a-z_.-]*(?:\d{1,3}(?:\.\d{1,3})?)?$/i.test(segment))

/**
 * A path with `{id}` in the place of all that is no name, such as numbers, UUIDs and addresses: few texts for many requests.
 * `/crm/v3/contacts/4711` becomes `/crm/v3/contacts/{id}`.
 */
export const pathTemplate = (path: string): string =>
  path.split("/").map((segment) => isName(segment) ? segment : "{id}").join("/")

/** The provider that an id names by itself, where nobody says otherwise: the part before its first `:`, else the id. */
export const defaultProvider = (id: string): string => {
  const colon = id.indexOf(":")
  return colon > 0 ? id.slice(0, colon) : id
}

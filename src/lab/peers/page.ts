// The part of a page that a command writes by itself, between two markers.

const BEGIN = '<!-- bench:peers begins: written by the command -->'
const END = '<!-- bench:peers ends -->'

/** The page with `content` between the markers in place of what was there; `undefined` when it has not both, in order. */
export function withPart(page: string, content: string): string | undefined {
  const begin = page.indexOf(BEGIN)
  const end = page.indexOf(END)
  if (begin === -1 || end < begin) return undefined
  return `${page.slice(0, begin)}${BEGIN}\n\n${content}\n\n${page.slice(end)}`
}

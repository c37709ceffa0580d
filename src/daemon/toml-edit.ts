// Changes single keys of a TOML file and leaves the rest as its owner wrote it, comments included.

import { parse, stringify } from 'smol-toml'

/** A value that a configuration may have. */
export type TomlValue = null | boolean | number | string | readonly TomlValue[] | { readonly [key: string]: TomlValue }

const MAX_VALUE_LINES = 500

/**
 * The text with `section.key` set to `value`, or taken out when it is null. A file whose form cannot be kept is written
 * anew from its values. Throws what smol-toml throws for text that is no TOML.
 */
export function editToml(text: string, section: string, key: string, value: TomlValue): string {
  const wanted = withValue(parse(text), section, key, value)
  const edited = edit(text, section, key, value)
  return isSame(edited, wanted) ? edited : stringify(wanted)
}

function edit(text: string, section: string, key: string, value: TomlValue): string {
  const lines = text === '' ? [] : text.replace(/\n$/, '').split('\n')
  const header = lines.findIndex(line => new RegExp(`^\\s*\\[\\s*${section}\\s*\\]\\s*(#.*)?$`).test(line))
  const line = `${key} = ${inline(value)}`
  if (header === -1) {
    if (value === null) return text
    return [...lines, ...(lines.length > 0 ? [''] : []), `[${section}]`, line, ''].join('\n')
  }
  const next = lines.findIndex((text, i) => i > header && /^\s*\[\[?[\w.\s"-]+\]\]?\s*(#.*)?$/.test(text))
  const end = next === -1 ? lines.length : next
  const at = lines.findIndex((text, i) => i > header && i < end && new RegExp(`^\\s*${key}\\s*=`).test(text))
  if (at === -1) lines.splice(lastLine(lines, header, end) + 1, 0, ...(value === null ? [] : [line]))
  else lines.splice(at, valueLines(lines, at), ...(value === null ? [] : [line]))
  return `${lines.join('\n')}\n`
}

/** The last line of a section that is not empty. */
function lastLine(lines: readonly string[], header: number, end: number): number {
  let at = end - 1
  while (at > header && lines[at]?.trim() === '') at--
  return at
}

/** How many lines the value that begins here takes. */
function valueLines(lines: readonly string[], at: number): number {
  for (let count = 1; count <= MAX_VALUE_LINES; count++) {
    try {
      parse(lines.slice(at, at + count).join('\n'))
      return count
    } catch {
      // It goes on.
    }
  }
  return 1
}

function inline(value: TomlValue): string {
  if (Array.isArray(value)) return `[${value.map(inline).join(', ')}]`
  if (typeof value === 'object' && value !== null)
    return `{ ${Object.entries(value)
      .map(([key, value]) => `${key} = ${inline(value)}`)
      .join(', ')} }`
  return JSON.stringify(value)
}

function withValue(values: Record<string, unknown>, section: string, key: string, value: TomlValue) {
  const { [key]: _, ...others } = (values[section] ?? {}) as Record<string, unknown>
  const changed = value === null ? others : { ...others, [key]: value }
  const isEmpty = Object.keys(changed).length === 0 && !(section in values)
  return isEmpty ? { ...values } : { ...values, [section]: changed }
}

function isSame(text: string, wanted: unknown): boolean {
  try {
    return stable(parse(text)) === stable(wanted)
  } catch {
    return false
  }
}

/** JSON with the keys of every table in order. */
function stable(value: unknown): string {
  return JSON.stringify(value, (_, inner: unknown) =>
    typeof inner === 'object' && inner !== null && !Array.isArray(inner)
      ? Object.fromEntries(Object.entries(inner).toSorted(([a], [b]) => (a < b ? -1 : 1)))
      : inner,
  )
}

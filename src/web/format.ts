// Numbers as people read them.

const UNITS = ['B', 'kB', 'MB', 'GB', 'TB'] as const
const BINARY = ['B', 'KiB', 'MiB', 'GiB', 'TiB'] as const

/** 1_530_000 → "1.5 MB" */
export function bytes(count: number): string {
  let value = count
  let unit = 0
  while (value >= 1000 && unit < UNITS.length - 1) {
    value /= 1000
    unit++
  }
  return `${value >= 100 || unit === 0 ? Math.round(value) : value.toFixed(1)} ${UNITS[unit]}`
}

/** As limits are set: 10_737_418_240 → "10 GiB" */
export function volume(count: number): string {
  const power = count < 1024 ? 0 : Math.min(BINARY.length - 1, Math.floor(Math.log2(count) / 10))
  const value = count / 1024 ** power
  return `${Number(value.toFixed(value >= 100 ? 0 : 1))} ${BINARY[power]}`
}

/** Bytes in a second as bits: 1_250_000 → "10 Mbit/s" */
export function speed(bytesPerSecond: number): string {
  const bits = bytesPerSecond * 8
  if (bits < 1_000) return `${Math.round(bits)} bit/s`
  if (bits < 1_000_000) return `${(bits / 1_000).toFixed(bits < 10_000 ? 1 : 0)} kbit/s`
  return `${(bits / 1_000_000).toFixed(bits < 100_000_000 ? 1 : 0)} Mbit/s`
}

/** The same as a mark on an axis, without what is nothing: "16 Mbit/s" */
export function speedMark(bytesPerSecond: number): string {
  return speed(bytesPerSecond).replace('.0 ', ' ')
}

/** 0.42 → "0.4 ms" */
export function milliseconds(ms: number | undefined): string {
  return ms === undefined ? '–' : `${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms`
}

export function duration(ms: number): string {
  const seconds = Math.floor(ms / 1000)
  if (seconds < 60) return `${seconds} s`
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`
  return `${Math.floor(seconds / 86_400)} d ${Math.floor((seconds % 86_400) / 3600)} h`
}

export function timeOfDay(at: number): string {
  return new Date(at).toLocaleTimeString([], {
    hour: '2-digit',
    minute: '2-digit',
    second: '2-digit',
    hourCycle: 'h23',
  })
}

/** The address without its port: "[2001:db8::1]:51821" → "2001:db8::1" */
export function host(address: string): string {
  return address.replace(/:\d+$/, '').replace(/^\[|\]$/g, '')
}

/** bytesCarried → "Bytes carried" */
export function spoken(name: string): string {
  const words = name
    .replace(/[._]/g, ' ')
    .replace(/([a-z0-9])([A-Z])/g, (_, end: string, start: string) => `${end} ${start.toLowerCase()}`)
  return words.charAt(0).toUpperCase() + words.slice(1)
}

/** When something was, as the browser's language writes it. */
export function dateAndTime(at: number): string {
  return new Date(at).toLocaleString([], { dateStyle: 'medium', timeStyle: 'short' })
}

/** "CH" → "Switzerland", in the browser's language. */
export function countryName(code: string): string {
  try {
    return new Intl.DisplayNames(undefined, { type: 'region' }).of(code) ?? code
  } catch {
    return code
  }
}

/** How long ago: 0 is never. */
export function since(at: number, now: number): string | undefined {
  return at === 0 ? undefined : duration(Math.max(0, now - at))
}

/** What a daemon says in passing, as a sentence: "no route: try again" → "No route: try again." */
export function sentence(text: string): string {
  if (text === '') return ''
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}${/[.!?]$/.test(text) ? '' : '.'}`
}

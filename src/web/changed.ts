/** `values` with `key` set, or without it when `value` is undefined. */
export function changed<T>(values: Readonly<Record<string, T>>, key: string, value: T | undefined): Record<string, T> {
  const others = Object.fromEntries(Object.entries(values).filter(([name]) => name !== key))
  return value === undefined ? others : { ...others, [key]: value }
}

// The WireGuard file that was brought to this page. It is held for as long as the page is open, and kept nowhere.

export interface HeldFile {
  readonly name: string
  readonly text: string
}

/** As many bytes the daemon takes. */
const MAX_BYTES = 32_768

let held: HeldFile | undefined

export function heldFile(): HeldFile | undefined {
  return held
}

export function holdFile(file: HeldFile | undefined): void {
  held = file
}

/** Reads a file that was dropped or chosen; why it is not taken, when it is not. */
export async function readFile(file: File): Promise<HeldFile | 'tooLong' | 'unreadable'> {
  // A film is not read to find out that it is none.
  if (file.size > MAX_BYTES) return 'tooLong'
  try {
    return { name: file.name, text: await file.text() }
  } catch {
    return 'unreadable'
  }
}

/** Gives a text to the browser as a file to save. */
export function saveAs(name: string, text: string): void {
  const url = URL.createObjectURL(new Blob([text], { type: 'application/octet-stream' }))
  const link = document.createElement('a')
  link.href = url
  link.download = name
  link.click()
  setTimeout(() => URL.revokeObjectURL(url), 10_000)
}

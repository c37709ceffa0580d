// Where a WireGuard file is brought: dropped, chosen, or pasted.

import type { JSX } from 'preact'
import { useState } from 'preact/hooks'
import { Icon } from '../icons.tsx'
import { texts } from '../texts.ts'
import { type HeldFile, readFile } from './vpn-file.ts'

const words = texts.vpn.drop
const PASTED = 'vpn.conf'

export function VpnDrop({ onFile }: { onFile: (file: HeldFile) => void }): JSX.Element {
  const [isOver, setOver] = useState(false)
  const [problem, setProblem] = useState<'tooLong' | 'unreadable' | undefined>(undefined)
  const take = async (file: File | undefined) => {
    if (file === undefined) return
    const read = await readFile(file)
    if (typeof read === 'string') return setProblem(read)
    setProblem(undefined)
    onFile(read)
  }
  const drop = (event: DragEvent) => {
    event.preventDefault()
    setOver(false)
    void take(event.dataTransfer?.files[0])
  }
  const paste = (event: SubmitEvent) => {
    event.preventDefault()
    const text = String(new FormData(event.currentTarget as HTMLFormElement).get('text'))
    onFile({ name: PASTED, text })
  }
  return (
    <section class="card">
      <h2>
        <Icon name="vpn" /> {words.title}
      </h2>
      <p class="muted">{words.text}</p>
      <label
        class={isOver ? 'drop is-over' : 'drop'}
        onDragOver={event => (event.preventDefault(), setOver(true))}
        onDragLeave={() => setOver(false)}
        onDrop={drop}
      >
        <Icon name="upload" size={36} />
        <strong>{words.here}</strong>
        <span class="drop-choose">{words.choose}</span>
        <input
          type="file"
          class="sr"
          accept=".conf,.txt,text/plain"
          onChange={event => {
            void take(event.currentTarget.files?.[0])
            // The same file again is a new choice.
            event.currentTarget.value = ''
          }}
        />
      </label>
      {problem !== undefined && (
        <p class="problem" role="alert">
          {words[problem]}
        </p>
      )}
      <details>
        <summary>{words.paste}</summary>
        <form class="stack" onSubmit={paste}>
          <label class="field">
            <span>{words.text_}</span>
            <textarea name="text" rows={8} required maxLength={32_768} spellcheck={false} autocomplete="off" />
          </label>
          <button type="submit">{words.read}</button>
        </form>
      </details>
    </section>
  )
}

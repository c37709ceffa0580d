// What a WireGuard file says, and how it is to be used.

import type { JSX } from 'preact'
import { useEffect, useState } from 'preact/hooks'
import type { Input, Output } from '#api/table.ts'
import { call } from '../api.ts'
import { Icon } from '../icons.tsx'
import { texts } from '../texts.ts'
import { useAction } from './action.ts'
import { Choice } from './choice.tsx'
import { Failure } from './failure.tsx'
import { Trouble } from './trouble.tsx'
import { Values } from './values.tsx'
import type { HeldFile } from './vpn-file.ts'
import { Waiting } from './waiting.tsx'

type Said = Output<'entry.check'>
type Form = Input<'entry.start'>['form']

const words = texts.vpn
const USUAL_ADDRESS = '127.0.0.1:51820'

interface StartProps {
  readonly file: HeldFile
  /** While it is being started this stays on the page, so that what goes wrong can be mended here. */
  readonly onBegin: (isUnderWay: boolean) => void
  readonly onChanged: () => Promise<void>
  readonly onAnother: () => void
}

export function VpnStart({ file, onBegin, onChanged, onAnother }: StartProps): JSX.Element {
  const reading = useAction()
  const [said, setSaid] = useState<Said | undefined>(undefined)
  useEffect(() => {
    setSaid(undefined)
    reading.run(async () => setSaid(await call('entry.check', { file: file.text })))
  }, [file])
  return (
    <>
      <section class="card">
        <div class="row">
          <h2>
            <Icon name="vpn" /> {words.said.title}
          </h2>
          <button type="button" class="quiet" onClick={onAnother}>
            {words.drop.another}
          </button>
        </div>
        <p class="muted wrap">{file.name}</p>
        {said !== undefined && <WhatItSays said={said} />}
        {said === undefined && reading.wrong === undefined && <Waiting />}
        <Failure doing={reading} />
      </section>
      {said !== undefined && <StartForm said={said} text={file.text} onBegin={onBegin} onChanged={onChanged} />}
    </>
  )
}

function WhatItSays({ said }: { said: Said }): JSX.Element {
  const { servers, addresses, dns, isWholeMachine, asksName, hooks, notes } = said
  const networks = isWholeMachine ? words.said.everything : servers.flatMap(({ allowedIps }) => allowedIps).join(', ')
  const rows: [string, string][] = [
    [words.said.server(servers.length), servers.map(({ endpoint }) => endpoint).join(', ')],
    [words.said.addresses, addresses.join(', ')],
    ...(dns.length === 0 ? [] : [[words.said.dns, dns.join(', ')] as [string, string]]),
    [words.said.networks, networks],
    [words.said.key, words.said.keyHidden],
    [words.said.psk, servers.some(({ hasPresharedKey }) => hasPresharedKey) ? words.on : words.off],
  ]
  return (
    <>
      <Values rows={rows} />
      {asksName && <p class="muted">{words.said.asksName}</p>}
      {hooks.length > 0 && (
        <>
          <h3>{words.said.hooks}</h3>
          <ul class="plain">
            {hooks.map(({ when, command }, i) => (
              <li key={i}>
                <code class="wrap">
                  {when} = {command}
                </code>
              </li>
            ))}
          </ul>
        </>
      )}
      {notes.length > 0 && (
        <>
          <h3>{words.said.notes}</h3>
          <ul class="plain">
            {notes.map(({ line, text }) => (
              <li class="muted" key={line}>
                {words.said.line(line)}: {text}
              </li>
            ))}
          </ul>
        </>
      )}
    </>
  )
}

interface FormProps {
  readonly said: Said
  readonly text: string
  readonly onBegin: StartProps['onBegin']
  readonly onChanged: () => Promise<void>
}

function StartForm({ said, text, onBegin, onChanged }: FormProps): JSX.Element {
  const doing = useAction()
  const { tunnel } = said
  const [form, setForm] = useState<Form>(tunnel.isPossible ? 'tunnel' : 'listen')
  const [peers, setPeers] = useState<1 | 2>(1)
  const start = (event: SubmitEvent) => {
    event.preventDefault()
    const data = new FormData(event.currentTarget as HTMLFormElement)
    const common = { file: text, peers, keep: data.has('keep') }
    onBegin(true)
    doing.run(async () => {
      await call(
        'entry.start',
        form === 'tunnel'
          ? { ...common, form, killSwitch: data.has('killSwitch') }
          : { ...common, form, listen: String(data.get('listen')).trim() },
      ).finally(async () => {
        // First how it stands now: what was told before would take this form away.
        await onChanged()
        onBegin(false)
      })
    })
  }
  return (
    <form class="card" onSubmit={start}>
      <h2>{words.start.title}</h2>
      {!tunnel.isPossible && (
        <Trouble title={words.start.impossible} wrong={{ problem: tunnel.why, advice: tunnel.advice }} />
      )}
      <div class="change">
        <Choice
          name="form"
          legend={words.start.form}
          chosen={form}
          onChoose={setForm}
          isBusy={doing.isBusy}
          values={[
            { value: 'tunnel', label: words.start.tunnel, isOff: !tunnel.isPossible },
            { value: 'listen', label: words.start.listen },
          ]}
        >
          {form === 'tunnel' ? words.start.tunnelText : words.start.listenText}
        </Choice>
        <Choice
          name="peers"
          legend={words.start.peers}
          chosen={peers}
          onChoose={setPeers}
          isBusy={doing.isBusy}
          values={[
            { value: 1, label: '1' },
            { value: 2, label: '2' },
          ]}
        >
          {words.start.peersText[peers]}
        </Choice>
      </div>
      {form === 'listen' && (
        <>
          <label class="field">
            <span>{words.start.address}</span>
            <input type="text" name="listen" required maxLength={60} defaultValue={USUAL_ADDRESS} autocomplete="off" />
          </label>
          <p class="muted">{words.start.addressText}</p>
          {said.isWholeMachine && <p class="notice notice-warn">{words.start.loop}</p>}
        </>
      )}
      {form === 'tunnel' && (
        <label class="inline">
          <input type="checkbox" name="killSwitch" defaultChecked />
          <span>{words.start.killSwitch}</span>
        </label>
      )}
      <label class="inline">
        <input type="checkbox" name="keep" />
        <span>{words.start.keep}</span>
      </label>
      <p class="muted small">{words.start.keepText}</p>
      <Failure doing={doing} />
      <button type="submit" class="primary" disabled={doing.isBusy}>
        <Icon name="power" size={18} /> {words.start.do}
      </button>
    </form>
  )
}

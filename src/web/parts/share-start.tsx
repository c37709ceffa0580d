// Becoming a peer or a relay: which, within which limits, and where others reach this machine.

import type { JSX } from 'preact'
import { useState } from 'preact/hooks'
import type { Input, Output } from '#api/table.ts'
import { call } from '../api.ts'
import { Icon } from '../icons.tsx'
import { texts } from '../texts.ts'
import { useAction } from './action.ts'
import { useAsked } from './asked.ts'
import { Choice } from './choice.tsx'
import { Failure } from './failure.tsx'
import { Statement } from './lent.tsx'
import { asSettings, type LimitsOfPeer, limitsOf } from './limits.ts'
import { isSound, LimitsFields } from './limits-form.tsx'
import { Trouble } from './trouble.tsx'
import { Waiting } from './waiting.tsx'

type Part = Output<'share.status'>
type As = Input<'share.start'>['as']
type Fields = Output<'settings'>['fields']

/** Where a relay listens unless the file says otherwise. */
const USUAL_PORT = 51_821
const words = texts.share

interface StartProps {
  readonly part: Part
  /** While it is being started this stays on the page, so that what goes wrong can be mended here. */
  readonly onBegin: (isUnderWay: boolean) => void
  readonly onChanged: () => Promise<void>
}

export function ShareStart({ part, onBegin, onChanged }: StartProps): JSX.Element {
  const doing = useAction()
  const { value: settings, wrong } = useAsked('settings')
  const [chosen, setLimits] = useState<LimitsOfPeer | undefined>(undefined)
  const [as, setAs] = useState<As>('peer')
  const [problem, setProblem] = useState<string | undefined>(undefined)
  if (settings === undefined) return <Waiting wrong={wrong} />
  const { fields } = settings
  const limits = chosen ?? limitsOf(fields)
  const isReadOnly = settings.problem !== undefined
  const start = (event: SubmitEvent) => {
    event.preventDefault()
    const address = String(new FormData(event.currentTarget as HTMLFormElement).get('address') ?? '').trim()
    doing.run(async () => {
      const values = { ...asSettings(limits), ...(address === '' ? {} : reachedAt(address, fields)) }
      const { problems } = isReadOnly ? { problems: [] } : await call('settings.save', { values })
      setProblem(problems[0]?.message)
      if (problems.length > 0) return
      onBegin(true)
      await call('share.start', { as }).finally(async () => {
        // First how it stands now: what was told before would take this form away.
        await onChanged()
        onBegin(false)
      })
    })
  }
  return (
    <>
      {part.state === 'failed' && doing.wrong === undefined && <Trouble kind="bad" title={words.failed} wrong={part} />}
      <form class="card" onSubmit={start}>
        <h2>
          <Icon name="share" /> {words.start.title}
        </h2>
        <p class="muted">{words.notYetText}</p>
        <Choice
          name="as"
          legend={words.start.as}
          chosen={as}
          onChoose={setAs}
          isBusy={doing.isBusy}
          values={[
            { value: 'peer', label: words.start.peer },
            { value: 'relay', label: words.start.relay },
          ]}
        >
          {words.start.meaning[as]}
        </Choice>
        <h3>{words.limits}</h3>
        <Trouble title={texts.settings.readOnly} wrong={settings} />
        <LimitsFields limits={limits} onChange={setLimits} isReadOnly={isReadOnly} />
        {!isReadOnly && <Address fields={fields} known={part.publicAddresses} as={as} />}
        {problem !== undefined && (
          <p class="problem" role="alert">
            {problem}
          </p>
        )}
        <label class="inline">
          <input type="checkbox" name="understood" required />
          <span>{words.start.understood}</span>
        </label>
        <Failure doing={doing} />
        <button type="submit" class="primary" disabled={doing.isBusy || !isSound(limits)}>
          <Icon name="power" size={18} /> {words.start.do}
        </button>
      </form>
      <Statement as={as} />
    </>
  )
}

/** Where others reach this machine, where the file does not say and it cannot be seen here. */
interface AddressProps {
  readonly fields: Fields
  readonly known: readonly string[]
  readonly as: As
}

function Address({ fields, known, as }: AddressProps): JSX.Element | null {
  if (saysWhere(fields)) return null
  return (
    <label class="field">
      <span>{words.start.address}</span>
      <input
        type="text"
        name="address"
        required={as === 'relay'}
        maxLength={45}
        defaultValue={known[0] ?? ''}
        placeholder="203.0.113.9"
        autocomplete="off"
      />
      <p class="muted">{known.length > 0 ? words.start.addressKnown(known.join(', ')) : words.start.addressText[as]}</p>
    </label>
  )
}

function saysWhere(fields: Fields): boolean {
  const of = (key: string) => fields.find(field => field.key === key)?.inFile
  const advertised = of('relay.advertise')
  const listen = of('relay.listen')
  const isOne = typeof listen === 'string' && !/^(0\.0\.0\.0|\[::\]):/.test(listen)
  return isOne || (Array.isArray(advertised) && advertised.length > 0)
}

function reachedAt(address: string, fields: Fields): Record<string, string[]> {
  const listen = fields.find(({ key }) => key === 'relay.listen')
  const port = /:(\d+)$/.exec(String(listen?.inFile ?? listen?.default))?.[1] ?? String(USUAL_PORT)
  const host = address.includes(':') ? `[${address}]` : address
  return { 'relay.advertise': [`${host}:${port}`], 'relay.control_advertise': [address] }
}

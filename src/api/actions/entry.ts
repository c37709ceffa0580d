import { z } from 'zod'
import { defineAction } from '../action.ts'
import { nodeStatus } from './status.ts'
import { wgInterface } from './wg-show.ts'

/** A WireGuard file as it is given out: it has a private key in it. */
const file = z.string().min(1).max(32_768).describe('The text of a WireGuard file')
const form = z.enum(['tunnel', 'listen'])
const state = z.enum(['off', 'starting', 'running', 'waiting', 'stopping', 'failed'])

export const checkEntry = defineAction({
  name: 'entry.check',
  summary: 'What a WireGuard file says, without its secrets, and how this machine can use it',
  permission: 'person',
  input: z.strictObject({ file }),
  output: z.strictObject({
    /** Servers of the file, as it names them. */
    servers: z.array(
      z.strictObject({ endpoint: z.string(), allowedIps: z.array(z.string()), hasPresharedKey: z.boolean() }),
    ),
    addresses: z.array(z.string()).describe('Of this machine inside the VPN'),
    dns: z.array(z.string()),
    mtu: z.number().optional(),
    isWholeMachine: z.boolean().describe('Whether the file leads everything that this machine says into the VPN'),
    asksName: z.boolean().describe("Whether a server's name is asked of this machine's own resolver"),
    hooks: z
      .array(z.strictObject({ when: z.string(), command: z.string() }))
      .describe('Commands of the file: they are shown, and never run'),
    notes: z.array(z.strictObject({ line: z.number(), text: z.string() })).describe('What was passed over, and where'),
    tunnel: z
      .strictObject({ isPossible: z.boolean(), why: z.string().optional(), advice: z.string().optional() })
      .describe('Whether this machine can bring the tunnel up by itself; why not, and what would help'),
  }),
})

export const entryStatus = defineAction({
  name: 'entry.status',
  summary: "How far the way to one's own VPN is: the peers in use, spares, and what was carried",
  permission: 'read',
  input: z.strictObject({}),
  output: z.strictObject({
    state,
    form: form.optional(),
    isKept: z.boolean().describe('Whether the WireGuard file is kept, so that it can be started again without it'),
    keptForm: form.optional(),
    isShut: z
      .boolean()
      .describe('Whether the firewall of an entry that ended keeps everything in: stop it to open the machine'),
    status: nodeStatus.optional(),
    interfaces: z.array(wgInterface),
    problem: z.string().optional(),
    advice: z.string().optional(),
  }),
})

export const startEntry = defineAction({
  name: 'entry.start',
  summary: "Lead one's own VPN over a stranger: with the text of its WireGuard file, or with the one that is kept",
  permission: 'person',
  input: z.strictObject({
    file: file.optional(),
    form: form.describe('A tunnel of this machine, or a port that one’s own WireGuard connects to'),
    listen: z.string().min(1).max(60).optional().describe("With `listen`: where one's own WireGuard connects to"),
    peers: z.number().int().min(1).max(2).optional().describe('Strangers in a row'),
    killSwitch: z
      .boolean()
      .optional()
      .describe('Whether nothing leaves the machine while the tunnel is down; it is so unless false'),
    keep: z
      .boolean()
      .optional()
      .describe('Keeps the file in the state directory, open to its owner alone, and starts it again with the daemon'),
  }),
  output: entryStatus.output,
})

export const stopEntry = defineAction({
  name: 'entry.stop',
  summary: "End the way to one's own VPN and put the network back; with forget, the kept file goes too",
  permission: 'person',
  input: z.strictObject({ forget: z.boolean().optional().describe('The kept file goes too') }),
  output: entryStatus.output,
})

export const newPeer = defineAction({
  name: 'entry.newPeer',
  summary: 'Lead the VPN over another stranger from now on; what is open goes on',
  permission: 'write',
  input: z.strictObject({}),
  output: z.strictObject({ entries: z.number() }),
})

const count = z.number().int().min(0)

export const fundEntry = defineAction({
  name: 'entry.fund',
  summary: "Give credits of this node's wallet to the one that the VPN's strangers are paid from",
  permission: 'person',
  input: z.strictObject({ credits: z.number().int().min(1).max(4_096).describe('How many') }),
  /** What that one has then, and what is left here. */
  output: z.strictObject({ entry: count, tokens: count }),
})

export const refundEntry = defineAction({
  name: 'entry.refund',
  summary: "Take back what the VPN's strangers were not paid",
  permission: 'person',
  input: z.strictObject({}),
  output: z.strictObject({ refunded: count, tokens: count }),
})

export const entryFile = defineAction({
  name: 'entry.file',
  summary: "A WireGuard file, changed so that one's own WireGuard connects to the entry that listens",
  permission: 'person',
  input: z.strictObject({ file }),
  output: z.strictObject({ file: z.string() }),
})

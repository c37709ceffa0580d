import { ORIGIN_ADDRESS } from '../origin-address.ts'
import type { Subject } from '../subject.ts'

/** The path itself, with nothing in between: what the machine and its cables can do. */
export const bare: Subject = {
  name: 'bare',
  title: 'bare path',
  hops: 0,
  missing: () => undefined,
  version: async () => '',
  start: async lab => {
    await lab.client.ip('route', 'add', ORIGIN_ADDRESS, 'via', '31.1.0.1')
    return { access: { kind: 'ip' }, processes: () => [] }
  },
}

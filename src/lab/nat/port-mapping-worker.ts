// A machine at home that asks its router for a port, as a process: each answer is a line of JSON. Ends when standard input does.
//
//   node src/lab/nat/port-mapping-worker.ts PORT HOST

import { PortMapper } from '#platform/paths/port-mapping.ts'

const [port = '', host = ''] = process.argv.slice(2)
await using mapper = new PortMapper({
  port: Number(port),
  hosts: () => [host],
  onMapping: address => process.stdout.write(`${JSON.stringify({ address: address ?? null })}\n`),
})
await mapper.start()
for await (const _ of process.stdin);

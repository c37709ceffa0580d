// Two programs on paired devices, as anybody would write them with the library.
//
//   node src/lab/devices/two-programs.ts serve STATE_DIR
//   node src/lab/devices/two-programs.ts ask STATE_DIR DEVICE     prints {"stream","datagram"}

import { connect, listen } from 'hoplite'

const PORT = 7_000
const [role, stateDir = '', device = ''] = process.argv.slice(2)

if (role === 'serve') {
  await listen(
    PORT,
    channel => {
      channel.stream.pipe(channel.stream)
      channel.onDatagram(bytes => channel.sendDatagram(bytes))
    },
    { stateDir },
  )
  process.stdout.write('ready\n')
} else {
  const channel = await connect(device, PORT, { stateDir })
  const datagram = new Promise<string>(resolve => channel.onDatagram(bytes => resolve(String(bytes))))
  const stream = new Promise<string>(resolve => channel.stream.once('data', bytes => resolve(String(bytes))))
  channel.stream.write('a stream')
  channel.sendDatagram(Buffer.from('a datagram'))
  process.stdout.write(`${JSON.stringify({ stream: await stream, datagram: await datagram })}\n`)
  channel.close()
}

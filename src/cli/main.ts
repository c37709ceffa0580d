// The command line. Every command reads its flags here and does its work in commands/.

import { Argument, Command, CommanderError, Option } from 'commander'
import { HopliteError } from '#api/errors.ts'
import { VERSION } from '#daemon/version.ts'
import { addEarningsCommands } from './earnings-commands.ts'
import { EXIT, exitCodeOf } from './exit-codes.ts'
import { addIssuerCommands } from './issuer-commands.ts'
import { printError } from './output.ts'
import { addWalletCommands } from './wallet-commands.ts'
import { wholeNumber } from './whole-number.ts'

const program = new Command('hoplite')
  .description('A VPN whose users cover each other')
  .version(VERSION, '--version')
  .exitOverride()
  .showSuggestionAfterError()

const addCommonOptions = (to: Command) =>
  to
    .option('--config <file>', 'configuration file (hoplite.toml)')
    .option('--state-dir <dir>', 'keys, state and control socket')
    .option('--json', 'one line of JSON')
const command = (name: string, description: string, isHidden = false) =>
  addCommonOptions(program.command(name, { hidden: isHidden }).description(description))

const upCommand = command('up', 'connect: start the daemon if none runs, and wait for a route')
  .option('--hops <n>', 'hops of a route, 1 to 5', wholeNumber(1, 5))
  .option('--proxy <address>', 'where the proxy listens')
  .option('--country <code...>', 'an exit in one of these countries, if there is one, like CH')
  .option('--avoid-country <code...>', 'no exit in these')
  .option('--spend-limit <credits>', 'pay relays no more than this', wholeNumber(1, 1_000_000_000))
  .option('--tun', 'send everything this machine says through the route (as root)')
machineOptions(upCommand).action(async options => (await import('./commands/up.ts')).up(options))
command('down', 'disconnect: stop the daemon')
  .option('--stay-shut', 'with a kill switch: let nothing leave until it is started again')
  .action(async options => (await import('./commands/down.ts')).down(options))
command('recover', 'undo what a node that died has changed of the network').action(async options =>
  (await import('./commands/recover.ts')).recover(options),
)
command('status', 'show what the node is doing').action(async options =>
  (await import('./commands/status.ts')).showStatus(options),
)
command('ui', 'open the dashboard; start the daemon if none runs')
  .option('--no-open', 'print the link and open nothing')
  .action(async options => (await import('./commands/ui.ts')).ui(options))
command('logs', 'show what the daemon did')
  .option('-f, --follow', 'go on with each new line')
  .option('-n, --lines <n>', 'how many lines', wholeNumber(0, 1_000_000))
  .action(async options => (await import('./commands/logs.ts')).logs(options))
command('reload', 'read the configuration file again, without dropping anything').action(async options =>
  (await import('./commands/reload.ts')).reload(options),
)
command('relay', 'carry traffic for others, in the foreground')
  .option('--exit', 'also let traffic out to the internet')
  .option('--tun', 'with --exit: for whole machines too (as root)')
  .action(async options => (await import('./commands/run.ts')).relay(options))
command('peer', "lend your address to others' WireGuard tunnels, in the foreground").action(async options =>
  (await import('./commands/peer.ts')).peer(options),
)
command('bootstrap', 'serve the directory, in the foreground').action(async options =>
  (await import('./commands/run.ts')).bootstrap(options),
)
command('rendezvous', 'pass letters between devices, in the foreground; keeps nothing on disk').action(async options =>
  (await import('./commands/run.ts')).rendezvous(options),
)
command('pair', 'show a code by which another device of yours can be paired')
  .option('--qr', 'as a picture for a camera')
  .option('--line', 'as a line to copy')
  .option('--file <file>', 'write it to a file')
  .option('--end', 'end a pairing that is under way')
  .action(async options => (await import('./commands/pair.ts')).pair(options))
command('join', 'pair with the device that shows a code')
  .argument('<code...>', 'four words, a line, a file with it, or - to read it from standard input')
  .action(async (code, options) => (await import('./commands/pair.ts')).join(code, options))
const devices = command('devices', 'list your devices')
  .option('--hosts', 'print their names and addresses as lines for /etc/hosts')
  .action(async options => (await import('./commands/devices.ts')).list(options))
const onDevices = (name: string, description: string) =>
  devices
    .command(name)
    .description(description)
    .option('--config <file>', 'configuration file (hoplite.toml)')
    .option('--state-dir <dir>', 'keys, state and control socket')
    .option('--json', 'one line of JSON')
onDevices('rename', 'call this device something else, or another one here')
  .argument('<device>', 'its name or id')
  .argument('<name>', '1 to 32 of a-z, 0-9 and -')
  .action(async (device, name, _, self) =>
    (await import('./commands/devices.ts')).rename(device, name, self.optsWithGlobals()),
  )
onDevices('remove', 'remove a device: it is out at once')
  .argument('<device>', 'its name or id')
  .action(async (device, _, self) => (await import('./commands/devices.ts')).remove(device, self.optsWithGlobals()))
onDevices('offer', 'let your devices reach a network through this one, or the internet')
  .argument('<network>', 'a private network like 192.168.1.0/24, or internet')
  .option('--to <device...>', 'who may; all when absent')
  .action(async (network, _, self) => (await import('./commands/devices.ts')).offer(network, self.optsWithGlobals()))
onDevices('withdraw', 'end an offer')
  .argument('<network>', 'the network, or internet')
  .action(async (network, _, self) => (await import('./commands/devices.ts')).withdraw(network, self.optsWithGlobals()))
onDevices('accept', 'reach a network through the device that offers it')
  .argument('<device>', 'its name or id')
  .argument('<network>', 'the network as it offers it')
  .action(async (device, network, _, self) =>
    (await import('./commands/devices.ts')).accept(device, network, self.optsWithGlobals()),
  )
onDevices('decline', 'reach a network through that device no more')
  .argument('<device>', 'its name or id')
  .argument('<network>', 'the network')
  .action(async (device, network, _, self) =>
    (await import('./commands/devices.ts')).decline(device, network, self.optsWithGlobals()),
  )
onDevices('add-phone', 'make a WireGuard file and QR picture for a phone, which this device serves')
  .argument('<name>', '1 to 32 of a-z, 0-9 and -')
  .option('--endpoint <address>', 'where the phone reaches this device: a name or address, and a port')
  .option('--offer <network...>', 'what it may reach besides: networks, internet, or devices for all others')
  .option('--again', 'make the file of a phone that is there anew; the one before is of no use then')
  .option('--file <file>', 'write it to a file')
  .action(async (name, _, self) => (await import('./commands/devices.ts')).addPhone(name, self.optsWithGlobals()))
onDevices('rotate', 'make new keys for this device, and tell the others').action(async (_, self) =>
  (await import('./commands/devices.ts')).rotate(self.optsWithGlobals()),
)
command('letters', 'letters that you carry by hand: print those that wait, or hand in those that came')
  .argument('[lines...]', 'what came: lines, a file with them, or - for standard input')
  .action(async (lines, options) => (await import('./commands/letters.ts')).letters(lines, options))
command('ping', 'ask one of your devices for an echo through the tunnel')
  .argument('<device>', 'its name or id')
  .option('--count <n>', 'how often', wholeNumber(1, 1_000_000), 4)
  .action(async (device, options) => (await import('./commands/ping.ts')).ping(device, options))
for (const [name, isHidden] of [
  ['entry', false],
  ['entry-daemon', true],
] as const) {
  command(name, 'put a stranger in front of the WireGuard VPN you have', isHidden)
    .argument('[file]', 'the WireGuard file of your VPN: hoplite brings its tunnel up')
    .option('--peers <n>', 'strangers between you and the VPN, 1 or 2', wholeNumber(1, 2), 1)
    .option('--listen <address>', 'instead of a file: where a WireGuard client of yours connects to')
    .option('--to <host:port>', 'with --listen: the WireGuard server to lead it to')
    .option('--run-hooks', 'run the PreUp, PostUp, PreDown and PostDown commands of the file')
    .option('--no-kill-switch', 'let packets leave around the tunnel when it is down')
    .action(async (file, options) => (await import('./commands/entry.ts')).entry(file, options, isHidden))
}
const wg = program.command('wg').description('the WireGuard interfaces of the node')
wg.command('show')
  .description('show them as wg(8) does')
  .option('--state-dir <dir>', 'keys, state and control socket')
  .option('--json', 'one line of JSON')
  .action(async options => (await import('./commands/wg.ts')).wgShow(options))
const daemonCommand = command('daemon', 'run the client in the foreground', true)
  .option('--hops <n>', 'hops of a route, 1 to 5', wholeNumber(1, 5))
  .option('--proxy <address>', 'where the proxy listens')
  .option('--country <code...>', 'an exit in one of these countries, if there is one, like CH')
  .option('--avoid-country <code...>', 'no exit in these')
  .option('--spend-limit <credits>', 'pay relays no more than this', wholeNumber(1, 1_000_000_000))
  .option('--off', 'build no route until told to')
  .option('--tun', 'send everything this machine says through the route')
machineOptions(daemonCommand).action(async options => (await import('./commands/run.ts')).daemon(options))
command('run', 'run one command whose traffic can go through a route only; needs no root')
  .usage('[options] -- COMMAND [ARGUMENT...]')
  .argument('<command...>', 'the command and its arguments')
  .option('--hops <n>', 'hops of a route, 1 to 5', wholeNumber(1, 5))
  .action(async (words, options) => (await import('./commands/run-command.ts')).runCommand(words, options))
program
  .command('keep')
  .description('run a node, and start it again when it dies or hangs, where no service manager does')
  .usage('-- NODE [OPTION...]')
  .argument('<node...>', 'relay, peer, daemon or another node, with its options')
  .addOption(
    new Option('--beat <ms>', 'how often a sign of life is waited for').argParser(wholeNumber(1, 60_000)).hideHelp(),
  )
  .action(async (words, options) => (await import('./commands/keep.ts')).keep(words, options))
command('keygen', 'make the keys of a relay or bootstrap node')
  .option('--force', 'set existing keys aside')
  .action(async options => (await import('./commands/keygen.ts')).keygen(options))
command('doctor', 'say what this machine can and cannot do')
  .option('--bundle <file>', 'write what a bug report needs, with nothing personal in it')
  .action(async options => (await import('./commands/doctor.ts')).doctor(options))
const installCommand = command('install-service', 'run a node from now on, and after every start of this machine')
  .addArgument(new Argument('[role]').choices(['client', 'relay', 'peer', 'bootstrap']).default('client'))
  .option('--exit', 'for a relay: also let traffic out to the internet')
  .option(
    '--tun',
    'for a client: send everything this machine says through the route; for an exit: for whole machines too',
  )
  .option('--print', 'print the file for the service manager and install nothing')
  .option('--remove', 'stop it and take it away')
machineOptions(installCommand).action(async (role, options) =>
  (await import('./commands/install-service.ts')).installService(role, options),
)
addEarningsCommands(command('earnings', 'show what this relay was paid'), addCommonOptions)
addIssuerCommands(command('issuer', 'issue and redeem credits, in the foreground'), addCommonOptions)
addWalletCommands(command('wallet', 'show what the wallet holds'), addCommonOptions)
program
  .command('demo')
  .description('run a whole network on this machine and fetch a page through it')
  .option('--port <n>', 'port of the proxy on 127.0.0.1', wholeNumber(0, 65_535), 1080)
  .option('--once', 'do one fetch and end')
  .option('--json', 'one line of JSON')
  .action(async options => (await import('./commands/demo.ts')).demo(options))

const call = program.command('call').description('carry out one action of the API')
program
  .command('completion')
  .description('print what teaches a shell these commands')
  .addArgument(new Argument('<shell>').choices(['bash', 'zsh', 'fish']))
  .action(async shell => {
    const { completionScript } = await import('./commands/completion.ts')
    process.stdout.write(completionScript(program, shell))
  })
// The table of actions takes a while to load: only what needs it does.
if (['call', 'completion'].includes(process.argv[2] ?? '')) (await import('./commands/call.ts')).addCalls(call)

// `hoplite status | head -1` closes the pipe early: that is no failure.
process.stdout.on('error', (error: NodeJS.ErrnoException) =>
  process.exit(error.code === 'EPIPE' ? EXIT.done : EXIT.failed),
)

try {
  await program.parseAsync()
} catch (error) {
  if (error instanceof CommanderError) {
    process.exitCode = error.exitCode === 0 ? EXIT.done : EXIT.usage
  } else {
    printError(error, process.argv.includes('--json'))
    process.exitCode = error instanceof HopliteError ? exitCodeOf(error.code) : EXIT.internal
  }
}

/** Who and what goes through a tunnel of the whole machine. */
function machineOptions(to: Command): Command {
  return to
    .option('--exclude <network...>', 'with --tun: networks that go around the route')
    .option('--exclude-user <user...>', 'with --tun: users that go around it')
    .option('--exclude-cgroup <path...>', 'with --tun: cgroups that go around it')
    .option('--only <network...>', 'with --tun: only these networks go through it')
    .option('--only-user <user...>', 'with --tun: only these users do')
    .option('--only-cgroup <path...>', 'with --tun: only these cgroups do')
    .option('--lan <range...>', 'with --tun: private ranges that stay within reach, or "all"')
    .option('--via <device>', 'with --tun: through a device of yours that offers the internet, in place of relays')
    .option('--no-kill-switch', 'with --tun: let packets leave around the route when it is down')
}

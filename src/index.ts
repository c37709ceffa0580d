// The library: run a node inside another program, or talk to one that runs. Needs the Node that package.json pins.

export { callAction, followEvents } from '#api/client.ts'
export { ERROR_CODES, type ErrorCode, HopliteError } from '#api/errors.ts'
export type { ActionName, EventData, EventName, Input, Output, Status, Told } from '#api/table.ts'
export { runBootstrap } from '#daemon/bootstrap.ts'
export { runClient } from '#daemon/client/client.ts'
export { type Config, defaultConfig, loadConfig, parseConfig } from '#daemon/config.ts'
export {
  type ChannelOptions,
  connect,
  type DeviceChannel,
  type DeviceListener,
  listen,
  MAX_DATAGRAM_BYTES,
} from '#daemon/devices/device-channels.ts'
export { type Fields, type Level, type Log, openLog } from '#daemon/log.ts'
export type { RunOptions } from '#daemon/node.ts'
export { runRelay } from '#daemon/relay/relay.ts'
export { VERSION } from '#daemon/version.ts'
export { configFile, socketPath, stateDirectory } from '#platform/state/directories.ts'

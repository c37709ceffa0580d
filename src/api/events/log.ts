import { defineEvent } from '../action.ts'
import { logLine } from '../actions/activity.ts'

export const log = defineEvent({ name: 'log', summary: 'A line was written to the log', data: logLine })

"""Worker processes: one per program, stopped while another one is measured."""
import json
import os
import select
import signal
import subprocess

ANSWER_SECONDS = 120


class Worker:
    def __init__(self, program, threads, logs):
        self.name, self.reason, self.process = program.name, None, None
        command = [str(word) for word in [*program.command, threads, *program.arguments]]
        # Everyone gets the same cores, as many as threads.
        cores = sorted(os.sched_getaffinity(0))[:threads]
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads),
                       **program.environment}
        self.log = logs / (program.name.replace(" ", "-") + ".log")
        try:
            with open(self.log, "w") as log:
                self.process = subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, env=environment,
                    preexec_fn=lambda: os.sched_setaffinity(0, cores))
        except OSError as error:
            self.absent(f"{command[0]}: {error.strerror}")
            return
        self.hello = self.receive() or {}
        self.stop()

    def absent(self, reason):
        self.reason = reason
        self.close()

    def stop(self):
        """Idle threads of a pool may spin; a stopped process uses no core, whatever its pool does."""
        if self.reason is None:
            self.process.send_signal(signal.SIGSTOP)

    def receive(self):
        readable, _, _ = select.select([self.process.stdout], [], [], ANSWER_SECONDS)
        line = self.process.stdout.readline() if readable else b""
        if line:
            return json.loads(line)
        said = self.log.read_text(errors="replace").strip().splitlines()
        last = said[-1][:160] if said else "without a word"
        self.absent(f"no answer in {ANSWER_SECONDS} s" if not readable else f"ended: {last}")
        return None

    def ask(self, *words):
        if self.reason is not None:
            return {"absent": self.reason}
        self.process.send_signal(signal.SIGCONT)
        line = " ".join(str(word).replace(" ", "~") for word in words)
        try:
            self.process.stdin.write(line.encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # it has ended; receive() says how
        answer = self.receive()
        self.stop()
        return answer if answer is not None else {"absent": self.reason}

    def close(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

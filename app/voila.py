"""Settings of `make app`, read by Voila: what one machine gives away, and to whom (docs/Getting-Started.md).

A visitor has a kernel of their own, with its memory. It ends with the visitor's page, or when nothing was touched for a
while, so that pages left open and pages that were only fetched do not fill the machine."""

from jupyter_server.services.kernels.kernelmanager import AsyncMappingKernelManager
from tornado.web import HTTPError
from traitlets import Int


class FewKernels(AsyncMappingKernelManager):
    """At most `most` kernels; a visitor for whom there is none gets a page that says so, with status 503."""

    most = Int(12, config=True, help="kernels at once, those included that wait for visitors")
    starting, closing = 0, False

    async def start_kernel(self, **options):
        if len(self) + self.starting >= self.most:
            told = f"All {self.most} places are taken, please come again in some minutes"
            raise HTTPError(503, told, reason=told)
        self.starting += 1
        try:
            return await super().start_kernel(**options)
        finally:
            self.starting -= 1

    async def shutdown_kernel(self, *arguments, **options):
        await super().shutdown_kernel(*arguments, **options)
        if not self.closing:  # warm kernels that could not start when all places were taken
            for name, pool in getattr(self, "_pools", {}).items():
                pool[:] = [task for task in pool if not task.done() or not (task.cancelled() or task.exception())]
                self.fill_if_needed(notebook_name=name)

    async def shutdown_all(self, *arguments, **options):
        self.closing = True
        await super().shutdown_all(*arguments, **options)


c = get_config()  # noqa: F821  Voila provides it
c.VoilaConfiguration.preheat_kernel = True
c.VoilaConfiguration.default_pool_size = 2  # kernels that are warmed up for the next visitors
c.VoilaConfiguration.multi_kernel_manager_class = FewKernels
c.FewKernels.cull_idle_timeout = 20 * 60  # seconds without a touch after which a kernel ends
c.FewKernels.cull_interval = 60  # seconds between looks
c.FewKernels.cull_connected = True  # also where a page was left open
# Only requests that mean this machine are answered: another site's name that leads here (DNS rebinding) gets 403.
# A page that is left ends its kernel by a POST without the cookie that Jupyter asks for against other sites; those are
# refused by their Origin, and cannot know a kernel's number.
c.Voila.tornado_settings = {"allow_remote_access": False, "local_hostnames": ["localhost"], "disable_check_xsrf": True}

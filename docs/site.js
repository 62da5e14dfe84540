// Where no font has a table of mathematics, Chromium does not lower subscripts: then site.css does, by this class.
addEventListener("DOMContentLoaded", () => {
    document.body.insertAdjacentHTML("beforeend",
        '<math style="position: absolute; visibility: hidden"><msub><mi>x</mi><mi>x</mi></msub></math>');
    const probe = document.body.lastElementChild, [base, script] = probe.querySelectorAll("mi");
    const lowered = script.getBoundingClientRect().bottom - base.getBoundingClientRect().bottom;  // pixels
    const size = parseFloat(getComputedStyle(base).fontSize);
    document.documentElement.classList.toggle("lower-subscripts", lowered < 0.1 * size);
    probe.remove();
});

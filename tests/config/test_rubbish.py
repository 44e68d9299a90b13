"""Wrong command lines, given to the function that ``python -m kd.run`` calls.

Each is refused in a line that names the setting, with exit code 2, and writes nothing.
"""

from __future__ import annotations

import copy
import io
import os
import re
import subprocess
import sys
import time
from contextlib import redirect_stderr
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

import kd.sweep.callback
import kd.sweep.refusals
from kd.config.callback import BeforeRun
from kd.config.settings import overridable_keys
from kd.run import main
from tests.conftest import CONF, compose, options

REFUSED = {
    # options and groups
    "student=tiny_cn": ("student=tiny_cn: there is no such option; did you mean tiny_cnn", "wrn_40_2"),
    "kd=hintn": ("did you mean hinton", "supervised", "combine"),
    "data=scens": ("did you mean scenes", "cifar100"),
    "attention=cbm": ("did you mean cbam", "triplet"),
    "experiment=nope": ("experiment=nope: there is no such option", "temperature_alpha"),
    "kd@baseline_kd=supervisd": ("kd=supervisd", "did you mean supervised"),
    "studnet=tiny_cnn": ("no setting studnet; did you mean student?",),
    "kd@baseline_kd=hinton": ("the baseline learns from labels alone", "kd@baseline_kd=supervised"),
    "student=null": ("student=null is not an option of student", "tiny_cnn"),
    "+student=tiny_cnn": ("student exists already", "without +"),
    "~kd": ("kd is missing: choose one, kd=",),
    "--config-name=conf": ("conf",),
    # keys
    "kd.temperatur=4": ("no setting kd.temperatur; did you mean kd.temperature?",),
    "train.student.epoch=3": ("no setting train.student.epoch; did you mean train.student.epochs",),
    "epochs=3": ("no setting epochs", "train.student.epochs"),
    "lr=0.1 widht=2": ("no setting lr", "train.student.lr", "no setting widht", "student.width"),
    "student={widht:2}": ("no setting student.widht; did you mean student.width",),
    "+foo=1": ("nothing reads foo",),
    "++kd.foo=1": ("nothing reads kd.foo",),
    "+kd.temperatur=4": ("nothing reads kd.temperatur; did you mean kd.temperature?",),
    "+kd.schedule.soft.stop=0.5": ("nothing reads kd.schedule.soft.stop",),
    "kd=combine kd.terms=[hinton] kd.at.weight=3": ("nothing reads kd.at.weight: kd.terms lists hinton",),
    "kd.terms.soft.temperature=3": ("nothing reads kd.temperature: kd.terms.soft.temperature replaces it",),
    "+kd.temperature=3": ("kd.temperature exists already", "without +"),
    "~kd.temperature": ("kd.temperature is missing", "kd.terms.soft.temperature"),
    "~seed": ("seed is missing",),
    "~train.student.epochs": ("train.student.epochs is missing: kd.train.recipe.Recipe requires it",),
    # data that are wrong or missing
    "data.train_images=0": ("data.train_images must be at least 12",),
    "data=folder data.root=null": ("data=folder needs data.root",),
    "data=folder data.root=/": ("data.root",),
    "data=intel data.root=/": ("no folder seg_train/ in data.root=/",),
    "data=oracle_mnist data.root=/": ("data.root=/ does not hold the files", "train-images-idx3-ubyte"),
    # mandatory settings
    "student=timm": ("student.name must be set",),
    "teacher=exported": ("teacher.checkpoint must be set",),
    "data=folder": ("data.root must be set",),
    # syntax
    "kd.temperature": ("cannot read 'kd.temperature'", "key=value"),
    "kd.temperature=[1,2": ("cannot read 'kd.temperature=[1,2'", "a list is kd.temperature=[a,b]"),
    "=3": ("no setting ''",),
    "kd.temperature==3": ("cannot read 'kd.temperature==3'", "one = is enough, kd.temperature=3"),
    "data=folder data.root=run(1)": ("cannot read", "Unknown function 'run'", """type 'data.root="run(1)"'"""),
    "data=folder data.root=O'Brien": ('cannot read "data.root=O\'Brien"', """type 'data.root="O'"'"'Brien"'"""),
    # arguments that Hydra cannot read and that can only be text
    "data=folder data.root=图片": ("data.root must be an existing folder", "got '图片'"),
    "data=folder data.root=/nowhere/a=b": ("data.root must be an existing folder", "got '/nowhere/a=b'"),
    "-m data=folder data.root=#1,été": ("data.root must be an existing folder", "got '#1'"),
    "teacher.ensemble=[{teacher:tiny_cnn,checkpoint:~no_one/été}]": ("teacher.checkpoint must", "got '~no_one/été'"),
    "kd.temperature=1;2": ("kd.temperature must be a number above 0, got '1;2'",),
    "student=été": ("student=été: there is no such option", "tiny_cnn"),
    "data=folder data.root=/nowhere ": (
        "Hydra drops the blank around '/nowhere '",
        """'data.root="/nowhere "'""",
    ),
    "outputs=~no_such_user/o": ("outputs must be a writable folder, got '~no_such_user/o'",),
    "hydra.run.dir=~no_such_user/o": ("hydra.run.dir must be a writable folder",),
    "-m seed=0,1 outputs=~no_such_user/o": ("outputs must be a writable folder",),
    f"data=folder data.root=. data.val_dir={'a' * 300}": ("data.val_dir must be", "at most 255 bytes"),
    f"data=folder data.root=. data.labels={'a' * 300}": ("data.labels must be", "at most 255 bytes"),
    f"hydra.output_subdir={'a' * 300}": ("hydra.output_subdir", "255 bytes"),
    f"-m seed=0,1 hydra.sweep.subdir={'a' * 300}": ("hydra.sweep.subdir", "255 bytes"),
    "kd.temperature=1,2": ("kd.temperature=1,2 has several values: use -m to run each",),
    # interpolations
    "seed=${nowhere}": ("nowhere is missing, and seed refers to it",),
    "seed=${seed}": ("seed=${seed}", "ecursive"),
    "seed=${tracking.project}": ("seed must be a whole number", "got 'kd'"),
    # types
    "seed=abc": ("seed must be a whole number of 0 or more", "got 'abc'"),
    "seed=true": ("seed must be a whole number", "got true"),
    "baseline=maybe": ("baseline must be true or false, got 'maybe'",),
    "baseline=1": ("baseline must be true or false, got 1",),
    "train.student.epochs=1.5": ("train.student.epochs must be a whole number of 1 or more, got 1.5",),
    "train.student.lr=fast": ("train.student.lr must be a number above 0, got 'fast'",),
    "kd.temperature=": ("kd.temperature must be a number above 0, got ''",),
    "student.width=true": ("student.width must be a number above 0, got true",),
    "train.student=3": ("train.student must be a mapping, {name: value}, got 3",),
    "tracking.project=2024": ("tracking.project must be text in one line", "got 2024", 'tracking.project="2024"'),
    "tracking.project='a\nb'": ("tracking.project must be text in one line", "got 'a\\nb'"),
    'tracking.project="my/proj:1"': (
        r"tracking.project must be text in one line without / \ # ? % :, of 1 to 128 characters, got 'my/proj:1'",
    ),
    f"tracking.tags=[kept,{'a' * 80}]": ("tracking.tags must be a list, each text in one line, of 1 to 64 characters",),
    "teacher.ensemble=resnet18": ("teacher.ensemble must be a list, got 'resnet18'",),
    "kd=at kd.stages=3": (
        "kd.stages must be a list of different values, each a whole number of -1 or less, or null, got 3",
    ),
    # ranges
    "seed=-1": ("seed must be a whole number of 0 or more, up to 2^53, got -1",),
    "kd.temperature=0": ("kd.temperature must be a number above 0, got 0",),
    "kd.temperature=nan": ("kd.temperature must be a number above 0, got nan",),
    "kd=combine kd.hinton.temperature=0": ("kd.hinton.temperature must be a number above 0, got 0",),
    "kd.alpha=1.5": ("kd.alpha=1.5", "must lie in [0, 1]"),
    "kd=at kd.weight=-1": ("kd.weight must be a number of 0 or more, got -1",),
    "kd=born_again kd.generations=0": ("kd.generations=0", "1 to 100"),
    "kd=fitnet_two_stage kd.hint_share=2": ("kd.hint_share must be a number in [0, 1], got 2",),
    "kd.alpha=0 kd.weights.hard=0": ("every weight in kd.weights is 0",),
    "kd=cc kd.order=0": ("kd.order must be a whole number of 1 to 100", "got 0"),
    "kd=takd kd.assistants=[tiny_cn]": ("kd.assistants names 'tiny_cn'", "did you mean tiny_cnn"),
    "kd=combine kd.terms=[hinton,att]": ("kd.terms lists 'att'", "did you mean at"),
    "student.width=0": ("student.width must be a number above 0, got 0",),
    "student.width=1e9": ("student.width=1000000000.0",),
    "student.depth=9": ("student.depth=9", "1 to 8"),
    "student.dropout=1": ("student.dropout must be a number in [0, 1), got 1",),
    "student=resnet20 student.depth=21": ("student.depth=21", "6 n + 2"),
    "teacher.name=resnet_18": ("teacher.name must be a network of timm, got 'resnet_18'; did you mean resnet18",),
    "teacher.source=bnk": ("teacher.source must be auto, live or cached, got 'bnk'",),
    "teacher.mean=[0.5,0.5]": ("teacher.mean must be a list of 3", "got [0.5, 0.5]"),
    "teacher.ensemble=[resnt18]": ("teacher.ensemble names 'resnt18'", "did you mean resnet18"),
    "attention.stages=[9]": ("attention.stages names stage 9", "0 to 4"),
    "attention=triplet attention.wrap.kernel_size=4": ("attention.wrap.kernel_size must be odd", "got 4"),
    "attention=se +attention.wrap.settings.foo=3": ("attention.wrap.settings.foo", "rd_ratio"),
    "train.student.epochs=0": ("train.student.epochs must be a whole number of 1 or more, got 0",),
    "train.student.lr=inf": ("train.student.lr must be a number above 0, got inf",),
    "train.student.warmup=1": ("train.student.warmup must be a number in [0, 1), got 1",),
    "train.student.mixup=2": ("train.student.mixup must be a number in [0, 1], got 2",),
    "train.student.label_smoothing=1": ("train.student.label_smoothing must be a number in [0, 1), got 1",),
    "train.student.clip_norm=0": ("train.student.clip_norm must be a number above 0, or null, got 0",),
    "train.batch_size=1": ("train.batch_size must be a whole number of 2 or more, or auto, got 1",),
    "train.device=gpu": ("train.device must be auto, cuda, cuda:0, mps or cpu, got 'gpu'",),
    "train.device=xpu": ("train.device must be auto, cuda, cuda:0, mps or cpu, got 'xpu'",),
    "train.precision=float16": ("train.precision must be auto, float32 or bfloat16, got 'float16'",),
    "train.pick_by=recall": ("train.pick_by must be accuracy, balanced_accuracy or macro_f1, got 'recall'",),
    "optimized_metric=student.training.best_val_macro_f1": (
        "optimized_metric=student.training.best_val_macro_f1",
        "train.pick_by",
    ),
    "train.checkpoint_minutes=0": ("train.checkpoint_minutes must be a number above 0, got 0",),
    "latency.batch=0": ("latency.batch must be a whole number", "got 0"),
    "tracking.mode=onlin": ("tracking.mode must be offline, online or disabled, got 'onlin'",),
    "optimized_metric=student.accuracy": ("optimized_metric=student.accuracy", "student.training.best_val_accuracy"),
    "optimized_metric=student.latency_ms.batch_8.p50": (
        "optimized_metric=student.latency_ms.batch_8.p50",
        "latency.batch",
    ),
    "sweep=a/b": ("sweep must be the name of a folder", "got 'a/b'"),
    # data and folders
    "data.image_size=4": ("data.image_size must be a whole number in [8, 4096], got 4",),
    "data.image_size=16 student.depth=5": ("data.image_size must be 32 or more, got 16", "student.depth=5"),
    "data.val_fraction=0": ("data.val_fraction must be a number in (0, 1), got 0",),
    "data=folder data.root=/nowhere": ("data.root must be an existing folder", "got '/nowhere'"),
    "data=folder data.root=. data.white=0": ("data.white must be a number above 0", "got 0"),
    "data=folder data.root=. data.nested=maybe": ("data.nested must be true or false, got 'maybe'",),
    "data=folder data.root=. data.labels=nowhere.csv": ("data.labels=nowhere.csv: No such file or directory",),
    "data=folder data.root=. data.on_bad_file=maybe": ("data.on_bad_file must be error or skip, got 'maybe'",),
    "data.balance=sampl": ("data.balance must be none, sample or weight, got 'sampl'",),
    "data.balence=sample": ("there is no setting data.balence; did you mean data.balance?",),
    "augment.flip=7": ("augment.flip must be a number in [0, 1], got 7",),
    "teacher.checkpoint=/nowhere.pt": ("teacher.checkpoint must be an existing file", "got '/nowhere.pt'"),
    "outputs=/dev/null/x": ("outputs must be a writable folder, got '/dev/null/x'",),
    "student._target_=kd.models.tiny_cn.TinyCNN": ("student._target_=kd.models.tiny_cn.TinyCNN: there is no such",),
    # sweeps
    "-m kd.temperature=2,0": ("the sweep cannot begin: kd.temperature must be a number above 0, got 0",),
    "-m kd.temperatur=2,4": ("the sweep cannot begin", "no setting kd.temperatur; did you mean kd.temperature?"),
    "-m student=tiny_cnn,tiny_cn": ("the sweep cannot begin: student=tiny_cn", "did you mean tiny_cnn"),
    "-m kd.temperature=interval(1,4)": ("the sweep cannot begin: kd.temperature=interval(1,4) is for a search",),
    "-m student=glob(foo*)": ("the sweep cannot begin: student=glob(foo*) has no value",),
    "-m seed=range(0,1000000000)": ("the sweep cannot begin: the sweep has more than 100,000 cells",),
}
REFUSED |= {
    # options that are not names
    "data=[scenes]": ("data is missing: choose one, data=",),
    "teacher=../teacher/tiny_cnn": ("teacher must be the name of one option, got '../teacher/tiny_cnn'",),
    # methods by name
    "kd.terms=[hinton,at]": ("kd.terms must be a mapping", "kd=combine kd.terms=[hinton,at]"),
    "kd=combine kd.terms=hinton": ("kd.terms must be a list, kd=combine kd.terms=[hinton]",),
    "kd=dkd kd.target=0 kd.nontarget=0": ("kd.target and kd.nontarget are both 0",),
    "kd=dkd kd.warmup=20": ("kd.warmup must be a number in [0, 1], got 20",),
    "kd=ab kd.share=1": ("kd.schedule.", "0 <= start < end <= 1"),
    "kd=fitnet kd.stages=[]": ("kd.stages must be a list of different values", "got []"),
    "kd.alpha=null": ("kd.alpha=null", "must lie in [0, 1]"),
    # networks of lists
    "teacher.ensemble=[{teacher:tiny_cnn,seed:abc},0]": ("teacher.ensemble: teacher.seed must be", "got 'abc'"),
    "teacher.ensemble=[resnet18,{teacher:resnet18,checkpoint:/nowhere}]": (
        "teacher.ensemble: teacher.checkpoint must",
    ),
    "teacher.ensemble=[0,0]": ("names the same network twice",),
    "kd=takd kd.assistants=[{student:tiny_cnn,width:wide}]": ("kd.assistants: student.width must be a number above 0",),
    "kd=takd kd.assistants=[{student:tiny_cnn,width:1e9}]": ("kd.assistants, number 1",),
    # teacher and attention
    "teacher.source=cached kd=at": ("teacher.source=cached holds logits",),
    "teacher.mean=[0.5,0.5,0.5]": ("teacher.mean is set alone", "teacher.std"),
    "attention=eca attention.wrap.settings.gamma=0": ("attention.wrap.settings", "gamma"),
    "attention=se attention.wrap=null": ("use attention=none",),
    "attention.stages=[1,1]": ("attention.stages must be a list of different values",),
    # folders
    "hydra.run.dir=/dev/null/x": ("hydra.run.dir must be a writable folder, got '/dev/null/x'",),
    "-m kd.temperature=1,2 hydra.sweep.dir=/dev/null/x": ("hydra.sweep.dir must be a writable folder",),
    "-m outputs=a,b": ("the sweep cannot begin: outputs=a,b: a sweep has one folder",),
    "student=resnet20 student.channels=16": ("student.channels must be a list, each a whole number, got 16",),
}
LONG = "x" * 300
REFUSED |= {  # names that no file can have
    f"sweep={LONG}": ("sweep must be the name of a folder, without / and of at most 255 bytes, or null, got 'xxx",),
    f"sweep='{'é' * 150}'": ("of at most 255 bytes",),
    f"-m seed=0,1 sweep={LONG}": ("the sweep cannot begin: sweep must be", "at most 255 bytes"),
    f"outputs={LONG}": ("outputs: a name in a path has at most 255 bytes",),
    f"outputs={'/'.join(['/tmp', *['x' * 200] * 20])}": ("outputs: its path has 4,0", "4,096 is the limit"),
    f"hydra.run.dir=runs/{LONG}": ("hydra.run.dir: a name in a path has at most 255 bytes",),
    f"-m seed=0,1 hydra.sweep.dir={LONG}": ("hydra.sweep.dir: a name in a path has at most 255 bytes",),
    f"data=folder data.root=. data.test_dir={LONG}": ("data.test_dir must be a folder whose name has at most 255",),
    f"teacher=timm teacher.name={LONG}": ("teacher.name must be a network of timm",),
}
REFUSED_TOO = {  # of the same kinds
    "teacher=resnet17": ("did you mean resnet18", "vea_resnet18", "wrn_16_1"),
    "train=defalt": ("did you mean default", "cifar"),
    "tracking=ofline": ("did you mean offline", "online", "disabled"),
    "hydra/launcher=jobli": ("hydra/launcher=jobli", "did you mean joblib"),
    "+studnet=tiny_cnn": ("nothing reads studnet; did you mean student?",),
    "kd@twn=hinton": ("kd@twn", "kd@baseline_kd"),
    "kd@baseline_kd=combine": ("the baseline learns from labels alone",),
    "student=3": ("student=3 is not an option of student", "tiny_cnn"),
    "~student=vgg8": ("student=vgg8",),
    "--config-dir=/nowhere": ("/nowhere",),
    "trian.batch_size=3": ("no setting trian.batch_size; did you mean train.batch_size?",),
    "student=timm student.nam=resnet18": ("no setting student.nam; did you mean student.name",),
    "+student.widht=2": ("nothing reads student.widht; did you mean student.width",),
    "+train.student.nesterov=true": ("nothing reads train.student.nesterov",),
    "+augment.rotate=3": ("nothing reads augment.rotate",),
    "+tracking.team=us": ("nothing reads tracking.team",),
    "~kd.temperatur": ("no setting kd.temperatur; did you mean kd.temperature?",),
    "~augment": ("augment.steps is missing",),
    "hydra.foo=3": ("no setting hydra.foo",),
    "teacher=timm": ("teacher.name must be set",),
    "data=oracle_mnist": ("data.root must be set",),
    "température=3": ("cannot read", "key=value", "did you mean kd.temperature?"),
    "kd..temperature=3": ("cannot read 'kd..temperature=3'",),
    "seed=range(0,3)": ("seed=range(0,3) has several values: use -m to run each",),
    "seed=${kd.temperatur}": ("kd.temperatur is missing, and seed refers to it; did you mean kd.temperature?",),
    "seed=${foo:3}": ("seed=${foo:3}", "Unsupported"),
    "seed=${oc.env:KD_NO_SUCH_THING}": ("KD_NO_SUCH_THING",),
    "seed=1.5": ("seed must be a whole number", "got 1.5"),
    "seed=null": ("seed must be a whole number", "got null"),
    "seed=[1]": ("seed must be a whole number", "got [1]"),
    "kd.temperature={a:1}": ("kd.temperature must be a number above 0, got {'a': 1}",),
    "latency=3": ("latency must be a mapping, {name: value}, got 3",),
    "tracking.tags=[1,a]": ("tracking.tags must be a list", "got [1, 'a']; quote text", 'tracking.tags=["1", "a"]'),
    "tracking.tags=['']": ("tracking.tags must be a list, each text in one line, of 1 to 64 characters, got ['']",),
    "tracking.tags=one": ("tracking.tags must be a list", "got 'one'"),
    "tracking.project=": ("tracking.project must be text", "got ''"),
    f"tracking.project={'p' * 129}": ("tracking.project must be text in one line", "128 characters"),
    "tracking.entity=me/kd": (r"tracking.entity must be text in one line without / \ #", "or null, got 'me/kd'"),
    f"tracking.group={'g' * 129}": ("tracking.group must be text in one line, of 1 to 128 characters, or null",),
    f"tracking=online tracking.group={'g' * 129}": ("tracking.group must be text in one line",),
    f"-m seed=0,1 tracking.tags=[{'a' * 65}]": ("the sweep cannot begin: tracking.tags must be a list",),
    "--kd.temperature=4 seed=1": ("type settings without dashes: kd.temperature=4", "${args_no_hyphens}"),
    "--kd.temperature 4 --seed 1": ("type settings without dashes: kd.temperature=4 seed=1",),
    "-m --kd.temperature=1,2": ("type settings without dashes: kd.temperature=1,2",),
    "--baselin": ("there is no flag --baselin", "key=value, without dashes"),
    "--multirn seed=1,2": ("there is no flag --multirn; did you mean --multirun?",),
    "kd=mlkd kd.temperatures=4": ("kd.temperatures must be a list, each a number above 0, got 4",),
    "train.grad_accum_steps=33": ("train.grad_accum_steps must be 32 or less", "got 33"),
    "train.batch_size=auto train.grad_accum_steps=64": ("train.grad_accum_steps must be 32 or less", "got 64"),
    "teacher.seed=-1": ("teacher.seed must be a whole number of 0 or more",),
    "kd.temperature=inf": ("kd.temperature must be a number above 0, got inf",),
    "kd=mlkd kd.temperatures=[4,0]": ("kd.temperatures must be a list, each a number above 0, got [4, 0]",),
    "kd.alpha=nan": ("kd.alpha=nan", "must lie in [0, 1]"),
    "kd.alpha=much": ("kd.alpha=much", "must lie in [0, 1]"),
    "kd=dkd kd.warmup=-1": ("kd.warmup must be a number in [0, 1], got -1",),
    "kd=cc kd.variant=papr": ("kd.variant must be one of repdistiller, paper, got 'papr'",),
    "student.width=-1": ("student.width must be a number above 0, got -1",),
    "student=tiny_resnet student.depth=[1000000000,1,1]": ("student.depth=[1000000000, 1, 1]", "1 to 200"),
    "teacher=tiny_cnn teacher.depth=9": ("teacher.depth=9", "1 to 8"),
    "teacher.stem=tiny": ("teacher.stem must be auto, small or large, got 'tiny'",),
    "teacher.combine=vote": ("teacher.combine must be probabilities, log_mean_exp or logits, got 'vote'",),
    "teacher.std=[0.2,0,0.2]": ("teacher.std must be a list of 3", "got [0.2, 0, 0.2]"),
    "teacher.allow_weak=2": ("teacher.allow_weak must be true or false, got 2",),
    "attention.stages=-1": ("attention.stages must be a list", "got -1"),
    "train.teacher.lr=0": ("train.teacher.lr must be a number above 0, got 0",),
    "train.student.ema=1": ("train.student.ema must be a number in (0, 1), or null, got 1",),
    "train.student.weight_decay=-1": ("train.student.weight_decay must be a number of 0 or more, got -1",),
    "train.student.optimizer=adamm": (
        "train.student.optimizer must be an optimizer of timm, or dot, got 'adamm'; did you mean adam",
    ),
    "train.batch_size=many": ("train.batch_size must be a whole number of 2 or more, or auto, got 'many'",),
    "train.grad_accum_steps=0": ("train.grad_accum_steps must be a whole number", "got 0"),
    "train.threads=0": ("train.threads must be a whole number in [1, 1024], or null, got 0",),
    "latency.seconds=-1": ("latency.seconds must be a number", "got -1"),
    "tracking.timeout=0": ("tracking.timeout must be a number", "got 0"),
    "optimized_metric=student.training.bst_val_accuracy": ("optimized_metric=student.training.bst_val_accuracy",),
    "optimized_metric=[]": ("optimized_metric must name",),
    "data.val_fraction=1": ("data.val_fraction must be a number in (0, 1), got 1",),
    "data=folder data.root=. data.test_fraction=1": ("data.test_fraction must be a number in (0, 1), got 1",),
    "augment=default augment.zoom=-0.1": ("augment.zoom must be a number in [0, 0.9], got -0.1",),
    "outputs=": ("outputs must be text in one line, got ''",),
    "-m seed=0,1 student.width=-1": ("the sweep cannot begin: student.width must be a number above 0, got -1",),
}


@pytest.fixture(scope="module", autouse=True)
def only_the_checks():
    """End the command after its checks, with exit code 0."""
    with pytest.MonkeyPatch.context() as patch:
        checked = BeforeRun.on_run_start

        def on_run_start(self, config, **more):
            checked(self, config, **more)
            raise SystemExit(0)

        patch.setattr(BeforeRun, "on_run_start", on_run_start)
        patch.setattr(kd.sweep.callback, "begin_sweep", lambda *_: (_ for _ in ()).throw(SystemExit(0)))
        # Hydra composes everything once more first, to read hydra.mode, and copies its whole store each time. Neither
        # changes a message, and together they take half of the time
        patch.setattr("hydra._internal.hydra.Hydra.get_mode", lambda *_, **__: None, raising=False)
        repository = "hydra._internal.config_repository.ConfigRepository.__deepcopy__"
        patch.setattr(repository, lambda self, memo: copy.copy(self), raising=False)
        patch.setenv("KD_OUTPUTS", "outputs")
        patch.delenv("HYDRA_FULL_ERROR", raising=False)
        yield


def run_checks(*arguments: str) -> tuple[int | str | None, str]:
    """Return exit code and stderr of the command with these arguments, run in this process."""
    with pytest.MonkeyPatch.context() as patch, redirect_stderr(io.StringIO()) as stderr:
        patch.setattr(sys, "argv", ["kd", *arguments])
        with pytest.raises(SystemExit) as end:
            main()
    assert "HYDRA_FULL_ERROR" not in os.environ
    return end.value.code, stderr.getvalue()


def split(line: str) -> list[str]:
    return re.split(r" (?=[\w~+-])", line)


@pytest.mark.parametrize("line", [*REFUSED, *(pytest.param(line, marks=pytest.mark.slow) for line in REFUSED_TOO)])
def test_it_is_refused_in_a_line_and_nothing_is_written(line, nowhere):
    code, stderr = run_checks(*split(line))
    assert code == 2 and stderr.startswith("kd: ") and "Traceback" not in stderr, stderr
    for part in (REFUSED | REFUSED_TOO)[line]:
        assert part in stderr
    assert not list(nowhere.iterdir())


@pytest.mark.parametrize("tracking", ["offline", "online"])
@pytest.mark.parametrize(("variable", "key"), [("WANDB_PROJECT", "project"), ("WANDB_ENTITY", "entity")])
def test_what_the_environment_says_to_wandb_is_held_to_the_same(variable, key, tracking, nowhere, monkeypatch):
    monkeypatch.setenv(variable, "my/proj:1")
    code, stderr = run_checks(f"tracking={tracking}")
    assert code == 2 and f"tracking.{key} must be text" in stderr
    assert f"got 'my/proj:1', from {variable} in the environment" in stderr
    assert run_checks(f"tracking={tracking}", f"tracking.{key}=mine") == (0, "")
    assert run_checks("tracking=disabled") == (0, ""), "needs no project"
    monkeypatch.setenv(variable, "")
    assert run_checks(f"tracking={tracking}") == (0, ""), "an empty variable counts as unset"


def test_an_id_that_wandb_would_not_take_is_refused(nowhere, monkeypatch):
    monkeypatch.setenv("WANDB_RUN_ID", "a/b")
    assert run_checks() == (0, ""), "only a sweep uses it"
    monkeypatch.setenv("WANDB_SWEEP_ID", "s1")
    code, stderr = run_checks()
    assert code == 2 and "WANDB_RUN_ID in the environment must be a run id without" in stderr


@pytest.mark.parametrize("processes", ["1", "2"])
def test_several_processes_do_not_share_one_gpu(processes, nowhere, monkeypatch):
    """NCCL would end with "Duplicate GPU detected"."""
    monkeypatch.setenv("WORLD_SIZE", processes)
    code, stderr = run_checks("train.device=cuda:0")
    refused = "train.device=cuda:0 would give all 2 processes the same GPU: set train.device=cuda" in stderr
    assert refused == (processes == "2") and (code == 2 or not refused)
    assert "same GPU" not in run_checks("train.device=cuda")[1]


def test_there_are_a_hundred_of_them():
    assert len(REFUSED) >= 100


@pytest.mark.parametrize(
    "line",
    [
        "",
        "train.batch_size=auto kd=combine student.width=0.5",
        "student={width:2} seed=${data.seed} kd.temperature=${train.teacher.epochs}",
        "+run_name=mine hydra.run.dir=runs/${run_name} tracking.tags=[${hydra:job.name}]",
        "-m kd.temperature=1,2 student=tiny_cnn,tiny_dscnn",
    ],
)
def test_what_makes_sense_passes_and_nothing_is_written_by_the_checks(line, nowhere):
    assert run_checks(*line.split()) == (0, "")
    assert not list(nowhere.iterdir())


@pytest.mark.parametrize("data", ["fashion_mnist", "cifar10", "cifar100"])
def test_what_would_be_downloaded_is_not_refused_before(data, nowhere, monkeypatch):
    monkeypatch.setattr("kd.data.datasets.fashion_mnist.DEBIAN", Path("/nowhere"))
    assert run_checks(f"data={data}") == (0, "")
    assert not list(nowhere.iterdir())


def test_a_users_own_option_is_held_to_the_same(tmp_path, nowhere):
    option = tmp_path / "mine" / "student" / "own.yaml"
    option.parent.mkdir(parents=True)
    option.write_text("_target_: kd.models.tiny_cnn.TinyCNN\nwidth: 1.0\ndepht: 2\n")
    mine = ["--config-dir", str(tmp_path / "mine")]
    code, stderr = run_checks(*mine, "student=own")
    assert code == 2 and "nothing reads student.depht" in stderr
    option.write_text("_target_: kd.models.tiny_cnn.TinyCNN\nwidth: 1.0\ndepth: 2\n")
    assert run_checks(*mine, "student=own") == (0, "")
    assert "student=on: there is no such option; did you mean own" in run_checks(*mine, "student=on")[1]
    assert "student.depht; did you mean student.depth" in run_checks(*mine, "student=own", "student.depht=2")[1]
    option.write_text("width: [1.0\n")
    code, stderr = run_checks(*mine, "student=own")
    assert code == 2 and "own.yaml" in stderr


def test_the_values_of_a_sweep_in_an_experiment_are_no_dead_settings(tmp_path, nowhere):
    option = tmp_path / "mine" / "experiment" / "seeds.yaml"
    option.parent.mkdir(parents=True)
    option.write_text("# @package _global_\nhydra: {sweeper: {params: {seed: '1,2'}}}\n")
    mine = ["--config-dir", str(tmp_path / "mine"), "experiment=seeds"]
    code, stderr = run_checks(*mine)
    assert code == 2 and "hydra.sweeper.params is for sweeps" in stderr and "add -m" in stderr
    assert run_checks("-m", *mine) == (0, "")


def test_an_option_whose_term_is_no_method_is_refused(tmp_path, nowhere):
    option = tmp_path / "mine" / "kd" / "plain.yaml"
    option.parent.mkdir(parents=True)
    option.write_text("terms: {soft: {_target_: torch.nn.KLDivLoss}}\nweights: {soft: 1.0}\n")
    code, stderr = run_checks("--config-dir", str(tmp_path / "mine"), "kd=plain")
    assert code == 2 and "kd.terms.soft: KLDivLoss has no needs or no setup" in stderr


def test_of_many_values_of_a_sweep_some_are_tried_the_last_among_them():
    assert kd.sweep.refusals.sample_values(list("a")) == [] and kd.sweep.refusals.sample_values(list("abc")) == [
        "c",
        "b",
    ]
    tried = kd.sweep.refusals.sample_values([*map(str, range(1000))])
    assert (
        tried[0] == "999"
        and len(tried) <= kd.sweep.refusals.MAX_CHECKED_VALUES
        and len(tried) > kd.sweep.refusals.MAX_CHECKED_VALUES / 2
    )


def test_what_is_there_and_cannot_be_imported_is_no_mistake_of_the_users(tmp_path, nowhere, monkeypatch):
    (tmp_path / "broken.py").write_text("raise ImportError('libjpeg.so.8: cannot open shared object file')\n")
    monkeypatch.syspath_prepend(tmp_path)
    code, stderr = run_checks("student._target_=broken.Network")
    assert code == 2 and "student._target_=broken.Network cannot be imported: ImportError: libjpeg.so.8" in stderr
    code, stderr = run_checks("student._target_=broke.Network")
    assert code == 2 and "student._target_=broke.Network: there is no such class or function" in stderr


def test_who_asks_for_the_traceback_gets_it(nowhere, monkeypatch, capsys):
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    monkeypatch.setattr(sys, "argv", ["kd", "kd.temperatur=4"])
    with pytest.raises(Exception, match="Could not override 'kd.temperatur'"):
        main()
    monkeypatch.setattr(sys, "argv", ["kd", "kd.temperature=0"])
    with pytest.raises(SystemExit) as end:
        main()
    stderr = capsys.readouterr().err
    assert end.value.code == 2 and "Traceback" in stderr and "kd: kd.temperature must be a number above 0" in stderr
    assert os.environ["HYDRA_FULL_ERROR"] == "1"


@pytest.mark.parametrize(
    "line",
    [
        "kd.temperatur=4",
        pytest.param("kd.temperature=0", marks=pytest.mark.slow),
        pytest.param("student.depth=9", marks=pytest.mark.slow),  # imports torch
        pytest.param("attention.stages=[9]", marks=pytest.mark.slow),  # and timm
        pytest.param("-m kd.temperature=2,0", marks=pytest.mark.slow),
    ],
)
def test_as_a_process_of_its_own(line, tmp_path, record_property):
    environment = os.environ | {"KD_OUTPUTS": "outputs", "PYTHONPATH": str(CONF.parent)}
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "kd.run", *line.split()], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    seconds = time.perf_counter() - began
    record_property("seconds", seconds)
    print(f"{line}: {seconds:.1f} s")
    assert done.returncode == 2 and done.stderr.startswith("kd: ") and not list(tmp_path.iterdir())
    assert seconds < 30, "3 s on an idle machine"


@pytest.fixture(scope="module")
def nowhere(tmp_path_factory):
    """An empty folder as the working directory of the command."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("nowhere")
        patch.chdir(folder)
        yield folder


KEYS = sorted(
    {key for key in overridable_keys(OmegaConf.to_container(compose()))} | {"kd@baseline_kd", "experiment", "sweep"}
)
STRANGE = [
    "",
    "null",
    "nan",
    "-inf",
    "1e400",
    "-0.0",
    "0x10",
    "1_000",
    "true",
    "[]",
    "{}",
    "[[[]]]",
    "{a:{b:[1]}}",
    "???",
]
STRANGE += [
    "${",
    "${}",
    "${kd}",
    "${..}",
    "${.seed}",
    "${seed.x}",
    "${oc.env:PATH}",
    "${oc.decode:1}",
    "${again:9}",
    "\\",
]
STRANGE += [
    "~",
    "..",
    "/",
    "~nobody/x",
    "a" * 300,
    "'",
    '"',
    "''",
    "'a b'",
    "glob(*)",
    "choice(1,2)",
    "1,2",
    "int(1)",
    "\u202e",
]


def written(value: object) -> str:
    """Return a value as you would type it."""
    if isinstance(value, list):
        return f"[{','.join(map(written, value))}]"
    if isinstance(value, dict):
        return f"{{{','.join(f'{key}:{written(child)}' for key, child in value.items())}}}"
    return "null" if value is None else str(value)


text = st.text(st.characters(exclude_characters="\0"), max_size=8)
keys = st.sampled_from(KEYS)
plain = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.integers(-(10**30), 10**30) | st.sampled_from(STRANGE)
)
nested = st.recursive(plain | text, lambda part: st.lists(part, max_size=3) | st.dictionaries(text, part, max_size=2))
values = nested.map(written) | keys.map(lambda key: f"${{{key}}}")
mangled = st.builds(
    lambda key, at, new: key[: at % len(key)] + new + key[at % len(key) + 1 :], keys, st.integers(0), text
)
prefixes = st.sampled_from(["", "", "", "+", "++", "~"])
overrides = st.builds("{}{}={}".format, prefixes, keys | mangled, values).filter(lambda line: not line.startswith("-"))
OPTION_KEYS = [
    (f"{group}={option}", f"{group}.{key}")
    for group in ("data", "attention", "teacher", "student", "kd")
    for option in options(group)
    for key in OmegaConf.load(CONF / group / f"{option}.yaml")
]
of_an_option = st.builds(lambda pair, value: [pair[0], f"{pair[1]}={value}"], st.sampled_from(OPTION_KEYS), values)
once = st.lists(overrides, min_size=1, max_size=2) | of_an_option
lines = once | once.map(lambda line: ["-m", *line])


def check_refused_or_accepted(line: list[str], folder: Path) -> None:
    code, stderr = run_checks(*line)
    assert code in (0, 2), (line, code, stderr)
    assert "Traceback" not in stderr and (code == 0 or stderr.startswith("kd: ")), (line, stderr)
    assert not list(folder.iterdir()), line


@settings(deadline=None, derandomize=True, max_examples=12, suppress_health_check=list(HealthCheck))
@given(lines)
@example(["teacher.stem=${sweep}"])  # the error was blamed on sweep
@example(["student=vgg19", "student.width=${data.image_size}"])  # 46 billion parameters
@example(["~kd", "kd.x\u0007=1"])
def test_whatever_is_typed_is_taken_or_refused(nowhere, line):
    check_refused_or_accepted(line, nowhere)


@pytest.mark.slow
@settings(deadline=None, max_examples=400, suppress_health_check=list(HealthCheck))
@given(lines)
def test_whatever_is_typed_is_taken_or_refused_at_length(nowhere, line):
    check_refused_or_accepted(line, nowhere)

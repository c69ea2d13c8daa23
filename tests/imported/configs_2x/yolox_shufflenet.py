# YOLOX on ShuffleNetV2 of MMClassification, on two classes.
_base_ = ['runtime.py']
custom_imports = dict(imports=['mmcls.models'], allow_failed_imports=False)
img_scale = (416, 416)
model = dict(
    type='YOLOX', input_size=img_scale, random_size_range=(10, 20), random_size_interval=10,
    backbone=dict(
        type='mmcls.ShuffleNetV2', widen_factor=1.0, out_indices=(0, 1, 2),
        init_cfg=dict(
            type='Pretrained', checkpoint='https://example.com/shufflenet_v2.pth', prefix='backbone.')),
    neck=dict(type='YOLOXPAFPN', in_channels=[116, 232, 464], out_channels=96, num_csp_blocks=1),
    bbox_head=dict(type='YOLOXHead', num_classes=2, in_channels=96, feat_channels=96),
    train_cfg=dict(assigner=dict(type='SimOTAAssigner', center_radius=2.5)),
    test_cfg=dict(score_thr=0.01, nms=dict(type='nms', iou_threshold=0.65)))
data_root = 'data/parts/'
classes = ('nut', 'bolt')
train_pipeline = [
    dict(type='Mosaic', img_scale=img_scale, pad_val=114.0),
    dict(type='RandomAffine', scaling_ratio_range=(0.1, 2), border=(-img_scale[0] // 2, -img_scale[1] // 2)),
    dict(type='MixUp', img_scale=img_scale, ratio_range=(0.8, 1.6), pad_val=114.0),
    dict(type='YOLOXHSVRandomAug'),
    dict(type='RandomFlip', flip_ratio=0.5),
    dict(type='Resize', img_scale=img_scale, keep_ratio=True),
    dict(type='Pad', pad_to_square=True, pad_val=dict(img=(114.0, 114.0, 114.0))),
    dict(type='FilterAnnotations', min_gt_bbox_wh=(1, 1), keep_empty=False),
    dict(type='DefaultFormatBundle'),
    dict(type='Collect', keys=['img', 'gt_bboxes', 'gt_labels']),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        type='MultiScaleFlipAug', img_scale=img_scale, flip=False,
        transforms=[
            dict(type='Resize', keep_ratio=True),
            dict(type='RandomFlip'),
            dict(type='Pad', pad_to_square=True, pad_val=dict(img=(114.0, 114.0, 114.0))),
            dict(type='DefaultFormatBundle'),
            dict(type='Collect', keys=['img']),
        ]),
]
data = dict(
    samples_per_gpu=8,
    workers_per_gpu=4,
    persistent_workers=True,
    train=dict(
        type='MultiImageMixDataset',
        dataset=dict(
            type='CocoDataset', classes=classes, ann_file=data_root + 'train.json', img_prefix=data_root + 'train/',
            pipeline=[dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True)],
            filter_empty_gt=False),
        pipeline=train_pipeline),
    val=dict(
        type='CocoDataset', classes=classes, ann_file=data_root + 'val.json', img_prefix=data_root + 'val/',
        pipeline=test_pipeline))
max_epochs = 100
num_last_epochs = 15
optimizer = dict(
    _delete_=True, type='SGD', lr=0.01, momentum=0.9, weight_decay=5e-4, nesterov=True,
    paramwise_cfg=dict(norm_decay_mult=0., bias_decay_mult=0.))
lr_config = dict(
    _delete_=True, policy='YOLOX', warmup='exp', by_epoch=False, warmup_by_epoch=True, warmup_ratio=1, warmup_iters=5,
    num_last_epochs=num_last_epochs, min_lr_ratio=0.05)
runner = dict(max_epochs=max_epochs)
custom_hooks = [
    dict(type='YOLOXModeSwitchHook', num_last_epochs=num_last_epochs, priority=48),
    dict(type='SyncNormHook', num_last_epochs=num_last_epochs, interval=10, priority=48),
    dict(type='ExpMomentumEMAHook', resume_from=None, momentum=0.0001, priority=49),
]
evaluation = dict(save_best='auto', interval=10, dynamic_intervals=[(max_epochs - num_last_epochs, 1)], metric='bbox')
